"""`adapters alias`: names of their own for versions."""

from __future__ import annotations

import click

from onetrunk.adapters.store.references import Reference
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.cli.output import emit_json, json_option, say
from onetrunk.core.errors import UsageError


@click.command("alias")
@click.argument("ref")
@click.argument("alias")
@click.option("--delete", is_flag=True, help="Take the alias away; REF is the name alone then.")
@json_option
def command(ref: str, alias: str, delete: bool, as_json: bool) -> None:
    """Put ALIAS on the version that REF means now, taking it from another version of that name.

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
            f"{name} names one version; to take an alias away give the name alone, as in "
            f"`adapters alias {Reference.parse(name).name} {alias} --delete`"
        )
    return Store().unalias(name, alias)
