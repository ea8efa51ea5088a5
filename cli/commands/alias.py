"""`adapters alias`: point an alias at a version, or delete it."""

from __future__ import annotations

import click

from onetrunk.adapters.store.references import Reference
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.cli.output import emit_json, json_option, say
from onetrunk.core.errors import UsageError


@click.command("alias")
@click.argument("ref")
@click.argument("alias")
@click.option("--delete", is_flag=True, help="Delete the alias; REF is then a name without a version.")
@json_option
def command(ref: str, alias: str, delete: bool, as_json: bool) -> None:
    """Point ALIAS at the version REF. If another version of that name has the alias, it is moved.

    \b
    Example:
      adapters alias ner@3 prod
      adapters alias ner prod --delete
    """
    stored = _delete(ref, alias) if delete else _point(ref, alias)
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


def _point(ref: str, alias: str) -> StoredVersion:
    store = Store()
    stored = store.resolve(ref)
    return store.alias(stored.name, alias, stored.version)


def _delete(name: str, alias: str) -> StoredVersion:
    if Reference.parse(name).name != name:
        raise UsageError(
            f"{name} is a version; to delete an alias give only the name, as in "
            f"`adapters alias {Reference.parse(name).name} {alias} --delete`"
        )
    return Store().unalias(name, alias)
