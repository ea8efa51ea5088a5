"""`adapters remove`: delete versions from the store."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from onetrunk.adapters.store.references import Reference
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.cli.output import emit_json, json_option, say
from onetrunk.core.errors import UsageError


@click.command("remove")
@click.argument("refs", metavar="REF...", nargs=-1, required=True)
@click.option("--all", "whole", is_flag=True, help="Remove all versions of the names given.")
@click.option("--force", is_flag=True, help="Also remove versions that have an alias, with the alias.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@json_option
def command(refs: tuple[str, ...], whole: bool, force: bool, yes: bool, as_json: bool) -> None:
    """Remove versions from the store, or all versions of a name with --all. This cannot be undone.

    \b
    Example:
      adapters remove ner@1 ner@2
      adapters remove ner --all --yes
    """
    store = Store()
    planned = [_planned(store, Reference.parse(ref), whole) for ref in dict.fromkeys(refs)]
    doomed = list({each.ref: each for versions in planned for each in versions}.values())
    _check_aliases(doomed, force)
    if not yes:
        _confirm(doomed)
    gone = [
        each for ref in _steps(refs, doomed, whole) for each in store.remove(ref, whole=whole, force=force)
    ]
    if as_json:
        emit_json({"removed": [each.ref for each in gone]})
    else:
        say(f"removed {', '.join(each.ref for each in gone)}")


def _planned(store: Store, ref: Reference, whole: bool) -> list[StoredVersion]:
    """Return the versions that `ref` means. Raises UsageError if `ref` and --all do not fit."""
    newest = store.resolve(ref)
    bare = ref == Reference(ref.name)
    if bare and not whole:
        raise UsageError(
            f"{ref} has no version number: give one, such as {newest.ref}, or --all to remove all versions"
        )
    if whole and not bare:
        raise UsageError(
            f"{ref} is one version, but --all removes every version: give {ref.name} --all, or {ref} without --all"
        )
    return store.versions(ref.name) if whole else [newest]


def _check_aliases(doomed: Sequence[StoredVersion], force: bool) -> None:
    held = [f"{each.ref} is {each.name}@{alias}" for each in doomed for alias in each.aliases]
    if held and not force:
        raise UsageError(f"{', '.join(held)}: delete the alias first, or give --force")


def _confirm(doomed: Sequence[StoredVersion]) -> None:
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for confirmation; give --yes to remove without it")
    names = ", ".join(each.ref for each in doomed)
    click.confirm(f"Remove {names} permanently?", abort=True, err=True)


def _steps(refs: Sequence[str], doomed: Sequence[StoredVersion], whole: bool) -> list[str]:
    """Return the references to remove, without duplicates."""
    return list(dict.fromkeys(refs)) if whole else [each.ref for each in doomed]
