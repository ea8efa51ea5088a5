"""Parts of the commands that push and pull: the Hub client, its token, pulls and locations."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onetrunk.adapters.remotes.locations import is_location
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.cli.backbones import backbone_for
from onetrunk.cli.output import note
from onetrunk.cli.progress import counting
from onetrunk.core.errors import UsageError

if TYPE_CHECKING:
    from onetrunk.adapters.format.manifest import Manifest
    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.plugin_system.host import PluginHost
    from onetrunk.core.sharing.pull import Puller

_LONGEST_TOKEN = 1024
"""Characters of a token file that are read."""

token_option = click.option(
    "--token",
    "token_file",
    metavar="FILE",
    help="File with the Hub token; - for stdin.  [default: HF_TOKEN, else the login of `hf auth login`]",
)
"""Adds the option `--token FILE`. The token itself is never an argument: the list of processes would show it."""


def quiet_hub() -> None:
    """Hide progress bars and warnings of huggingface_hub; the commands show their own progress and errors."""
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    if "HF_HUB_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def read_token(source: str | None) -> str | None:
    """Return the token in the file `source`, or None for None, with which the Hub client uses its own login.

    source: `-` reads stdin. Raises UsageError if the file cannot be read or does not have exactly one token.
    """
    if source is None:
        return None
    if source.startswith("hf_"):
        raise UsageError(
            "--token expects the name of a file, not a token: other users could read a token in the list of "
            "processes; put the token into a file, into stdin (--token -) or into HF_TOKEN"
        )
    try:
        with nullcontext(sys.stdin) if source == "-" else Path(source).open(encoding="utf-8") as file:
            text = file.read(_LONGEST_TOKEN)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"--token {source}: cannot be read ({why})") from error
    if not (token := text.strip()) or not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError(f"--token {source}: expected a single line with the token")
    return token


@contextmanager
def pulling(
    host: PluginHost, backbone: str | None, token: str | None = None, *, allow_mismatch: bool = False
) -> Iterator[Puller]:
    """Yield a puller into the store of the user; progress of the download is shown on stderr.

    backbone: a backbone to load for the checks, None for the one that the adapter names.
    token: Hub token, None for the login of the Hub client.
    allow_mismatch: store an adapter of another backbone without computing its probe.
    """
    from onetrunk.core.sharing.pull import Puller

    def load(manifest: Manifest) -> Backbone:
        return backbone_for({manifest.task: manifest}, backbone)

    quiet_hub()
    with counting(None) as advance:
        yield Puller(Store(), host, load, token=token, allow_mismatch=allow_mismatch, advance=advance)


def resolve_version(host: PluginHost, reference: str, backbone: str | None = None) -> StoredVersion:
    """Return the stored version of `reference`. A location is pulled first, and its reference printed on stderr.

    backbone: as for `pulling`. torch is imported only for a location. Raises the errors of `Puller.resolve`.
    """
    if not is_location(reference):
        return Store().resolve(reference)
    with pulling(host, backbone) as puller:
        stored = puller.resolve(reference)
    note(f"{reference} is {stored.ref} in the store")
    return stored
