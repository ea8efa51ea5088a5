"""Parts of the commands that push and pull: the token, the backbone for the checks, and locations."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onetrunk.adapters.remotes.locations import is_location
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.cli.backbones import choose_backbone
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
    help="File with the Hub token; - reads stdin.  [default: HF_TOKEN, else the login of `hf auth login`]",
)
"""Adds `--token FILE`. The token itself is never an argument: the list of processes would show it."""


def read_token(source: str | None) -> str | None:
    """Return the token in the file `source`, None for None: the Hub client then uses its own login.

    Raises UsageError if the file cannot be read or does not hold one token.
    """
    if source is None:
        return None
    if source.startswith("hf_"):
        raise UsageError(
            "--token expects the name of a file, not a token: other users could read it in the list of processes; "
            "set HF_TOKEN, give a file, or - for stdin"
        )
    try:
        text = sys.stdin.read(_LONGEST_TOKEN) if source == "-" else _read(Path(source))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"--token {source}: cannot be read ({why})") from error
    if not (token := text.strip()) or not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError(f"--token {source}: expected a single line with the token")
    return token


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(_LONGEST_TOKEN)


def backbone_loader(choice: str | None, device: str = "cpu") -> Callable[[Manifest], Backbone]:
    """Return a function that loads the backbone of an adapter in fp32; choice: a backbone to load instead."""

    def load(manifest: Manifest) -> Backbone:
        name, revision = choose_backbone({manifest.task: manifest}, choice)
        return load_backbone(name, revision, device=device, dtype="fp32")

    return load


def base_loader(choice: str | None, device: str = "cpu") -> Callable[[str | None, str | None], Backbone]:
    """Return a function that loads the base model named in PEFT's files; choice: a backbone to load instead."""

    def load(name: str | None, revision: str | None) -> Backbone:
        if choice is None and name is None:
            raise UsageError("the files of the adapter do not name a base model; give it with --backbone")
        return load_backbone(choice or str(name), None if choice else revision, device=device, dtype="fp32")

    return load


@contextmanager
def pulling(
    host: PluginHost, backbone: str | None, token: str | None = None, **options: Any
) -> Iterator[Puller]:
    """Yield a puller for the user's store; a progress bar of the download is shown on stderr."""
    from onetrunk.core.sharing.pull import Puller

    quiet_hub()
    with counting(None) as advance:
        yield Puller(Store(), host, backbone_loader(backbone), token=token, advance=advance, **options)


def resolve_version(
    host: Callable[[], PluginHost], reference: str, backbone: str | None = None
) -> StoredVersion:
    """Return the stored version of `reference`; a location is pulled first, and its version printed on stderr.

    host: returns the plugins. torch is imported only for a location. Raises what `Puller.resolve` raises.
    """
    if not is_location(reference):
        return Store().resolve(reference)
    with pulling(host(), backbone) as puller:
        stored = puller.resolve(reference)
    click.echo(printable(f"{reference} is {stored.ref} in the store"), err=True)
    return stored
