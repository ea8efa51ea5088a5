"""What the commands that share adapters have in common: the token, and the backbone of the checks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onetrunk.adapters.remotes.locations import is_location
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.cli.backbones import needed_backbone
from onetrunk.cli.output import printable
from onetrunk.cli.progress import counting
from onetrunk.cli.quiet import load_backbone, quiet_hub
from onetrunk.core.errors import UsageError

if TYPE_CHECKING:
    from onetrunk.adapters.format.manifest import Manifest
    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.plugin_system.host import PluginHost
    from onetrunk.core.sharing.pull import Puller

_LONGEST_TOKEN = 1024

token_option = click.option(
    "--token",
    "token_file",
    metavar="FILE",
    help="File with the token for the Hub, - for stdin.  [default: HF_TOKEN, else that of `hf auth login`]",
)
"""Gives a command `--token`. A token itself is never an argument: others could read it in the list of processes."""


def read_token(source: str | None) -> str | None:
    """Return the token in the file `source`; None for none, where the client's own is used."""
    if source is None:
        return None
    if source.startswith("hf_"):
        raise UsageError(
            "--token takes the name of a file, not a token, which others could read in the list of processes; "
            "set HF_TOKEN, or give a file, or - for stdin"
        )
    try:
        text = sys.stdin.read(_LONGEST_TOKEN) if source == "-" else _read(Path(source))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"--token {source}: cannot be read ({why})") from error
    if not (token := text.strip()) or not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError(f"--token {source}: expected one line, a token and nothing else")
    return token


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(_LONGEST_TOKEN)


def backbone_loader(choice: str | None, device: str = "cpu") -> Callable[[Manifest], Backbone]:
    """Return what loads the backbone that an adapter needs, in fp32; choice: one that the user names instead."""

    def load(manifest: Manifest) -> Backbone:

        name, revision = needed_backbone({manifest.task: manifest}, choice)
        return load_backbone(name, revision, device=device, dtype="fp32")

    return load


def base_loader(choice: str | None, device: str = "cpu") -> Callable[[str | None, str | None], Backbone]:
    """Return what loads the backbone that plain PEFT's files name; choice: one that the user names instead."""

    def load(name: str | None, revision: str | None) -> Backbone:

        if choice is None and name is None:
            raise UsageError("the adapter's files do not say its backbone; give it with --backbone")
        return load_backbone(choice or str(name), None if choice else revision, device=device, dtype="fp32")

    return load


@contextmanager
def pulling(
    host: PluginHost, backbone: str | None, token: str | None = None, **options: Any
) -> Iterator[Puller]:
    """Yield what pulls into the user's store; the bytes that come are shown on stderr."""
    from onetrunk.core.sharing.pull import Puller

    quiet_hub()
    with counting(None) as advance:
        yield Puller(Store(), host, backbone_loader(backbone), token=token, advance=advance, **options)


def located(host: Callable[[], PluginHost], reference: str, backbone: str | None = None) -> StoredVersion:
    """Return the version that `reference` means, as `Puller.resolve` does; say which one a location means.

    host: returns the plugins. No torch is imported unless `reference` is a location.
    """
    if not is_location(reference):
        return Store().resolve(reference)
    with pulling(host(), backbone) as puller:
        stored = puller.resolve(reference)
    click.echo(printable(f"{reference} is {stored.ref} in the store"), err=True)
    return stored
