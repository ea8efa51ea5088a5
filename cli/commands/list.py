"""`adapters list`: list the adapters in the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from onetrunk.adapters.errors import ArtifactError, StoreError
from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.number_format import format_metric, headline, size, weight_bytes
from onetrunk.cli.output import emit_json, json_option, say, table

if TYPE_CHECKING:
    from onetrunk.core.tasks import TaskSpec

_COLUMNS = ("adapter", "aliases", "task", "result", "size", "created (UTC)", "from")


_Entry = tuple[StoredVersion, Manifest | None, str | None]
"""A version with its manifest, or with None and the reason why the manifest cannot be read."""


@click.command("list")
@click.argument("name", required=False)
@json_option
@click.pass_context
def command(context: click.Context, name: str | None, as_json: bool) -> None:
    """List the adapters in the store, or the versions of the adapter NAME.

    The column `result` has the main metric of the task on test data, or on dev data if there was no test data. A
    version that cannot be read is listed as broken, with the reason. If the file that lists the versions of a name
    (adapter.json) is damaged, the command lists the other names and then fails. An adapter that was used by its
    location, without `adapters pull`, has a name such as org--repo.

    \b
    Example:
      adapters list
      adapters list ner --json
    """
    store = Store()
    if name is not None and not store.versions(name):
        store.resolve(name)  # raises UnknownAdapter with similar names
    entries: list[_Entry] = []
    faults: list[str] = []
    for each in store.names() if name is None else [name]:
        try:
            entries += map(_read, store.versions(each))
        except StoreError as error:
            faults.append(str(error))
    if as_json:
        emit_json([_record(entry) for entry in entries])
    elif not entries and not faults:
        say(f"The store {store.root} is empty; try `adapters quickstart`.")
    else:
        _print(entries, plugin_host(context).tasks)
    if faults:
        raise StoreError("; ".join(faults))


def _read(stored: StoredVersion) -> _Entry:
    try:
        return stored, read_manifest(stored.path), None
    except ArtifactError as error:
        return stored, None, str(error)


def _record(entry: _Entry) -> dict[str, Any]:
    stored, manifest, fault = entry
    return {
        "name": stored.name,
        "version": stored.version,
        "ref": stored.ref,
        "aliases": list(stored.aliases),
        "path": str(stored.path),
        "origin": None if stored.origin is None else str(stored.origin),
        "cached": stored.is_cached,
        "error": fault,
        "task": manifest and manifest.task,
        "metrics": manifest and headline(manifest.metrics)[1],
        "created": manifest and manifest.created,
        "parent": manifest and manifest.parent,
        "labels": manifest and list(manifest.labels),
        "backbone": manifest and manifest.backbone.name,
        "bytes": manifest and weight_bytes(manifest),
    }


def _print(entries: list[_Entry], tasks: Mapping[str, TaskSpec]) -> None:
    table(_COLUMNS, (_row(stored, manifest, tasks) for stored, manifest, _ in entries), right=["size"])
    for stored, _, fault in entries:
        if fault is not None:
            say(f"{stored.ref}: {fault}", fg="red")


def _row(stored: StoredVersion, manifest: Manifest | None, tasks: Mapping[str, TaskSpec]) -> tuple[str, ...]:
    aliases, origin = ", ".join(stored.aliases), stored.origin
    place = "" if origin is None else f"{origin.place}@{origin.commit[:12]}"
    if manifest is None:
        return stored.ref, aliases, "broken", "", "", "", place
    result, weights = _result(manifest, tasks), size(weight_bytes(manifest))
    created = manifest.created[:16].replace("T", " ")
    return stored.ref, aliases, manifest.task, result, weights, created, place


def _result(manifest: Manifest, tasks: Mapping[str, TaskSpec]) -> str:
    """Return the main metric of the task, or the first metric if the plugin of the task is not installed."""
    split, metrics = headline(manifest.metrics)
    spec = tasks.get(manifest.task)
    name = spec.primary if spec is not None and spec.primary in metrics else next(iter(metrics), None)
    return "" if name is None else f"{name} {format_metric(metrics[name])} ({split})"
