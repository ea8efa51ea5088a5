"""`adapters pull`: download an adapter from the Hub or a shared folder into the store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.store.references import validate_name
from onetrunk.adapters.store.store import Store
from onetrunk.cli.backbones import load_backbone
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.options import backbone_option
from onetrunk.cli.output import emit_json, json_option, note, say
from onetrunk.cli.sharing import pulling, read_token, token_option
from onetrunk.core.errors import UsageError

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.sharing.pull import PullResult


@click.command("pull")
@click.argument("source")
@click.option(
    "--as", "name", metavar="NAME", help="Name in the store.  [default: that of the repo or folder]"
)
@click.option(
    "--into",
    metavar="NAME",
    help="Store the adapter as the next version of NAME, even if NAME has another origin or task.",
)
@backbone_option()
@click.option(
    "--allow-backbone-mismatch",
    "allow_mismatch",
    is_flag=True,
    help="Store the adapter even if it was trained on another backbone. Its probe is then not checked.",
)
@click.option("--task", metavar="T", help="Import a plain PEFT adapter for task T.")
@click.option(
    "--labels",
    metavar="A,B,…",
    help="Labels of the PEFT adapter, in the order of its logits.  [default: read from its files]",
)
@token_option
@json_option
@click.pass_context
def command(context: click.Context, /, source: str, as_json: bool, **options: Any) -> None:
    """Pull the adapter SOURCE (ORG/REPO, ORG/REPO@REVISION or file:///FOLDER) into the store.

    The adapter is checked before it is stored: file hashes, shapes, the fingerprint of the backbone, and the probe
    (a few texts with the logits that they must give). A commit that is in the store is not downloaded again.

    Each name in the store has one task and one origin: the repo or folder from which its newest version was pulled,
    or this machine if it was trained here. To pull an adapter of another origin or task, give --as with a new name,
    or --into with an existing name.

    \b
    Example:
      adapters pull acme/ner
      adapters pull acme/ner@v3 --as people
      adapters pull other/ner --into people
      adapters pull file:///mnt/models/ner
      adapters pull somebody/bert-ner-lora --task ner --labels O,B-PER,I-PER
    """
    location, host, token = Location.parse(source), plugin_host(context), read_token(options["token_file"])
    task, labels, backbone, into = (options[key] for key in ("task", "labels", "backbone", "into"))
    if task is None and labels is not None:
        raise UsageError("--labels is only for plain PEFT adapters; also give --task")
    name = _name(options["name"], into)
    with pulling(host, backbone, token, allow_mismatch=options["allow_mismatch"]) as puller:
        if task is None:
            pulled = puller.pull(location, name, into=into is not None)
        else:
            spec, base = host.task(task), partial(_base_model, backbone)
            order = None if labels is None else [label.strip() for label in labels.split(",")]
            pulled = puller.pull_peft(location, spec, base, order, name, into=into is not None)
    stored = pulled.stored
    for line in pulled.notes:
        note(f"note: {line}")
    if as_json:
        emit_json(record_of(pulled))
    else:
        verb = "pulled" if pulled.new else "already in the store:"
        say(f"{verb} {stored.ref} from {stored.origin or location}")


def _name(new: str | None, into: str | None) -> str | None:
    """Return the name in the store, None for the default. Raises UnknownAdapter if `into` is not in the store."""
    if into is None:
        return new
    if new is not None:
        raise click.UsageError("--as and --into cannot be combined; leave one out")
    return Store().resolve(validate_name(into)).name


def _base_model(choice: str | None, name: str | None, revision: str | None) -> Backbone:
    """Load the base model that PEFT's files name, or the backbone `choice` instead."""
    if choice is not None:
        return load_backbone(choice, device="cpu", dtype="fp32")
    if name is None:
        raise UsageError("the files of the adapter do not name a base model; give it with --backbone")
    return load_backbone(name, revision, device="cpu", dtype="fp32")


def record_of(pulled: PullResult) -> dict[str, Any]:
    """Return the result of a pull as JSON."""
    stored = pulled.stored
    return {
        "ref": stored.ref,
        "name": stored.name,
        "version": stored.version,
        "new": pulled.new,
        "origin": None if stored.origin is None else str(stored.origin),
        "path": str(stored.path),
        "notes": list(pulled.notes),
    }
