"""`adapters alias`: point an alias at a version, or delete it."""

from __future__ import annotations

import click

from onetrunk.adapters.store.references import Reference
from onetrunk.adapters.store.store import Store
from onetrunk.cli.output import emit_json, json_option, say
from onetrunk.core.errors import UsageError


@click.command("alias")
@click.argument("ref")
@click.argument("alias")
@click.option("--delete", is_flag=True, help="Delete ALIAS. With --delete, REF is a name without a version.")
@json_option
def command(ref: str, alias: str, delete: bool, as_json: bool) -> None:
    """Point ALIAS at the version REF. ALIAS is removed from any other version of the same name.

    \b
    Example:
      adapters alias ner@3 prod
      adapters alias ner prod --delete
    """
    store = Store()
    if delete:
        name = Reference.parse(ref).name
        if name != ref:
            hint = f"`adapters alias {name} {alias} --delete`"
            raise UsageError(f"{ref} is a version; to delete an alias, give only the name: {hint}")
        stored = store.unalias(name, alias)
    else:
        version = store.resolve(ref)
        stored = store.alias(version.name, alias, version.version)
    if as_json:
        emit_json(
            {
                "adapter": stored.ref,
                "name": stored.name,
                "version": stored.version,
                "alias": alias,
                "deleted": delete,
                "aliases": list(stored.aliases),
            }
        )
    else:
        say(f"{stored.ref} {'is no longer' if delete else 'is now'} {stored.name}@{alias}")
