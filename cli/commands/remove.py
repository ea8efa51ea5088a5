"""`adapters remove`: delete versions from the store."""

from __future__ import annotations

import sys

import click

from onetrunk.adapters.store.references import Reference
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.cli.output import emit_json, json_option, say
from onetrunk.core.errors import UsageError


@click.command("remove")
@click.argument("refs", metavar="REF...", nargs=-1, required=True)
@click.option("--all", "whole", is_flag=True, help="Remove all versions of the name REF.")
@click.option("--force", is_flag=True, help="Also remove versions that have an alias, and their aliases.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@json_option
def command(refs: tuple[str, ...], whole: bool, force: bool, yes: bool, as_json: bool) -> None:
    """Remove the version REF, such as ner@2, from the store. With --all, REF is a name, and all its versions are
    removed. This cannot be undone.

    \b
    Example:
      adapters remove ner@1 ner@2
      adapters remove ner --all --yes
    """
    store = Store()
    planned = [_planned(store, Reference.parse(ref), whole) for ref in dict.fromkeys(refs)]
    versions = list({each.ref: each for versions in planned for each in versions}.values())
    held = [f"{each.ref} is {each.name}@{alias}" for each in versions for alias in each.aliases]
    if held and not force:
        raise UsageError(f"{', '.join(held)}: delete the alias first, or give --force")
    if not yes and not sys.stdin.isatty():
        raise UsageError(
            "stdin is not a terminal, so there is no confirmation; give --yes to remove without it"
        )
    if not yes:
        click.confirm(f"Remove {', '.join(each.ref for each in versions)} permanently?", abort=True, err=True)
    steps = dict.fromkeys(refs) if whole else [each.ref for each in versions]
    gone = [each for ref in steps for each in store.remove(ref, whole=whole, force=force)]
    if as_json:
        emit_json({"removed": [each.ref for each in gone]})
    else:
        say(f"removed {', '.join(each.ref for each in gone)}")


def _planned(store: Store, ref: Reference, whole: bool) -> list[StoredVersion]:
    """Return the versions that `ref` means. Raises UsageError for a version with --all, or a name without."""
    newest = store.resolve(ref)
    bare = ref == Reference(ref.name)
    if bare and not whole:
        raise UsageError(
            f"{ref} has no version number: give a version, such as {newest.ref}, or --all to remove all versions"
        )
    if whole and not bare:
        raise UsageError(
            f"{ref} is one version, but --all removes every version: give {ref.name} --all, or {ref} without --all"
        )
    return store.versions(ref.name) if whole else [newest]
