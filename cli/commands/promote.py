"""`adapters promote`: make a version the current one of its name."""

from __future__ import annotations

import click

from onetrunk.adapters.store.references import Reference
from onetrunk.adapters.store.store import Store
from onetrunk.cli.output import emit_json, json_option, say
from onetrunk.core.errors import UsageError


@click.command("promote")
@click.argument("ref")
@json_option
def command(ref: str, as_json: bool) -> None:
    """Make the version REF the current one: what the name alone means, as in `adapters predict people`.

    Training, a pull and an import make a new version the current one; training only if it is not worse than the
    version before (see `adapters train --promote`). A running service takes the version when it loads the name
    again.

    \b
    Example:
      adapters promote people@2
      adapters promote people@latest
    """
    if Reference.parse(ref) == Reference(Reference.parse(ref).name):
        raise UsageError(f"{ref} has no version: give one, such as {ref}@2 or {ref}@latest")
    stored, before = Store().promote(ref)
    meant = None if before is None else before.ref
    if as_json:
        emit_json({"name": stored.name, "current": stored.ref, "previous": meant})
    else:
        said = f"{stored.name} means {stored.ref}"
        say(f"{said} already" if meant == stored.ref else f"{said} now; before {meant or 'no version'}")
