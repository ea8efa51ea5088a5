"""`adapters list`: list the adapters in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from onetrunk.adapters.errors import ArtifactError, StoreError
from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.number_format import format_metric, headline, size, weight_bytes
from onetrunk.cli.output import emit_json, json_option, printable, say, table

if TYPE_CHECKING:
    from onetrunk.core.tasks import TaskSpec

_COLUMNS = ("adapter", "aliases", "task", "result", "size", "created (UTC)", "from")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A version with its manifest, or with the reason why it cannot be read."""

    stored: StoredVersion
    manifest: Manifest | None
    fault: str | None


@click.command("list")
@click.argument("name", required=False)
@json_option
@click.pass_context
def command(context: click.Context, name: str | None, as_json: bool) -> None:
    """List the adapters in the store, or the versions of the adapter NAME.

    The result is the main metric of the task on test data, or on dev data if there were no test data. A version
    that cannot be read is listed as broken, with the reason. If the index of an adapter is damaged, the command
    lists the others and then fails. An adapter that was used by its location, without `adapters pull`, has a name
    such as org--repo.

    \b
    Example:
      adapters list
      adapters list ner --json
    """
    store = Store()
    if name is not None and not store.versions(name):
        store.resolve(name)  # raises, and names what is near
    found, faults = _versions(store, store.names() if name is None else [name])
    entries = [_read(stored) for stored in found]
    if as_json:
        emit_json([_record(entry) for entry in entries])
    elif not entries and not faults:
        say(f"The store {printable(str(store.root))} is empty; try `adapters quickstart`.")
    else:
        _print(entries, plugin_host(context).tasks)
    if faults:
        raise StoreError("; ".join(faults))


def _versions(store: Store, names: Sequence[str]) -> tuple[list[StoredVersion], list[str]]:
    """Return the versions of all names, and the errors of names whose index cannot be read."""
    found: list[StoredVersion] = []
    faults: list[str] = []
    for name in names:
        try:
            found += store.versions(name)
        except StoreError as error:
            faults.append(str(error))
    return found, faults


def _read(stored: StoredVersion) -> _Entry:
    try:
        return _Entry(stored, read_manifest(stored.path), None)
    except ArtifactError as error:
        return _Entry(stored, None, str(error))


def _record(entry: _Entry) -> dict[str, Any]:
    stored = entry.stored
    return {
        "name": stored.name,
        "version": stored.version,
        "ref": stored.ref,
        "aliases": list(stored.aliases),
        "path": str(stored.path),
        "origin": None if stored.origin is None else str(stored.origin),
        "cached": stored.is_cached,
        "error": entry.fault,
        **_told(entry.manifest),
    }


def _told(manifest: Manifest | None) -> dict[str, Any]:
    """Return fields of the manifest; for a broken version all are null."""
    return {
        "task": manifest and manifest.task,
        "metrics": manifest and headline(manifest.metrics)[1],
        "created": manifest and manifest.created,
        "parent": manifest and manifest.parent,
        "labels": manifest and list(manifest.labels),
        "backbone": manifest and manifest.backbone.name,
        "bytes": manifest and weight_bytes(manifest),
    }


def _print(entries: list[_Entry], tasks: Mapping[str, TaskSpec]) -> None:
    table(_COLUMNS, [_row(entry, tasks) for entry in entries], right=["size"])
    for entry in entries:
        if entry.fault is not None:
            say(printable(f"{entry.stored.ref}: {entry.fault}"), fg="red")


def _row(entry: _Entry, tasks: Mapping[str, TaskSpec]) -> tuple[str, ...]:
    aliases, manifest = ", ".join(entry.stored.aliases), entry.manifest
    origin = entry.stored.origin
    place = "" if origin is None else f"{origin.place}@{origin.commit[:12]}"
    if manifest is None:
        return entry.stored.ref, aliases, "broken", "", "", "", place
    created = manifest.created[:16].replace("T", " ")
    return (
        entry.stored.ref,
        aliases,
        manifest.task,
        _result(manifest, tasks),
        size(weight_bytes(manifest)),
        created,
        place,
    )


def _result(manifest: Manifest, tasks: Mapping[str, TaskSpec]) -> str:
    """Return the main metric, or the first one when the plugin that could name it is not installed."""
    split, figures = headline(manifest.metrics)
    spec = tasks.get(manifest.task)
    name = spec.primary if spec is not None and spec.primary in figures else next(iter(figures), None)
    return "" if name is None else f"{name} {format_metric(figures[name])} ({split})"
