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
    removed. This cannot be undone. After the removal of the current version, the name means the version that it
    meant before, if there is one.

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
    left = {each.name: store.versions(each.name) for each in gone if each.is_current}
    moved = {name: store.current(name) for name, versions in left.items() if versions}
    if as_json:
        current = {name: now and now.ref for name, now in moved.items()}
        emit_json({"removed": [each.ref for each in gone], "current": current})
        return
    say(f"removed {', '.join(each.ref for each in gone)}")
    for name, now in moved.items():
        say(_meaning(name, now, left[name][-1]))


def _meaning(name: str, now: StoredVersion | None, newest: StoredVersion) -> str:
    if now is not None:
        return f"{name} means {now.ref} now"
    return (
        f"{name} means no version now: none was promoted; `adapters promote {newest.ref}` chooses the newest"
    )


def _planned(store: Store, ref: Reference, whole: bool) -> list[StoredVersion]:
    """Return the versions that `ref` means. Raises UsageError for a version with --all, or a name without."""
    bare = ref == Reference(ref.name)
    versions = store.versions(ref.name) if bare else []
    if bare and versions and not whole:
        newest = versions[-1].ref
        raise UsageError(
            f"{ref} has no version number: give a version, such as {newest}, or --all to remove all versions"
        )
    picked = versions or [store.resolve(ref)]  # raises UnknownAdapter
    if whole and not bare:
        raise UsageError(
            f"{ref} is one version, but --all removes every version: give {ref.name} --all, or {ref} without --all"
        )
    return picked
