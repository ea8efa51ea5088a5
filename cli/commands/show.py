"""`adapters show`: show the details of an adapter."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from onetrunk.adapters.errors import OneTrunkError
from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.format.manifest import BackboneRecord, Manifest
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.cli.number_format import counted, metric_rows, size, weight_bytes
from onetrunk.cli.output import emit_json, json_option, say, table

Rows = Iterator[tuple[str, str]]


@click.command("show")
@click.argument("ref")
@json_option
def command(ref: str, as_json: bool) -> None:
    """Show the details of the adapter REF: task, labels, backbone, data, results, settings, lineage.

    --json prints the whole task.json, including the result tables and the logits of the probe.

    \b
    Example:
      adapters show ner
      adapters show ner@prod --json
    """
    store = Store()
    stored = store.resolve(ref)
    manifest = read_manifest(stored.path)
    lineage = _lineage(store, stored, manifest)
    if as_json:
        origin = None if stored.origin is None else str(stored.origin)
        place = {
            "ref": stored.ref,
            "aliases": list(stored.aliases),
            "path": str(stored.path),
            "origin": origin,
            "cached": stored.is_cached,
        }
        emit_json({**place, "lineage": lineage, **manifest.to_json()})
    else:
        _print(stored, manifest, lineage)


def _lineage(store: Store, stored: StoredVersion, manifest: Manifest) -> list[str]:
    """Return the version, its parent, and so on, as far as they are in the store."""
    chain, parent = [stored.ref], manifest.parent
    while parent is not None and parent not in chain:
        chain.append(parent)
        try:
            parent = read_manifest(store.resolve(parent).path).parent
        except OneTrunkError:  # removed or broken: its own parent is unknown
            parent = None
    return chain


def _print(stored: StoredVersion, manifest: Manifest, lineage: list[str]) -> None:
    splits = list(manifest.metrics)
    table(("adapter", stored.ref), _about(stored, manifest, lineage))
    _below(("data", "rows", "source", "sha256"), _data(manifest), right=["rows"])
    _below(("result", *splits), metric_rows(manifest.metrics), right=splits)
    _below(("training", ""), ((name, _plain(value)) for name, value in manifest.training.items()))
    if manifest.settings:
        _below(("decoder", ""), ((name, _plain(value)) for name, value in manifest.settings.items()))
    files = ((name, size(record.bytes), record.sha256) for name, record in manifest.files.items())
    _below(("file", "size", "sha256"), files, right=["size"])
    _below(("probe",), ((json.dumps(text, ensure_ascii=False),) for text in manifest.probe.texts))


def _below(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    say()
    table(columns, rows, right=right)


def _about(stored: StoredVersion, manifest: Manifest, lineage: list[str]) -> Rows:
    if stored.aliases:
        yield "aliases", ", ".join(stored.aliases)
    if stored.origin is not None:
        use = ", used by its location without `adapters pull`" if stored.is_cached else ""
        yield "origin", f"{stored.origin}, following {stored.origin.follows}{use}"
    yield "task", f"{manifest.task}, of {manifest.plugin.distribution} {manifest.plugin.version}"
    yield "level", manifest.level + ("" if manifest.pooling is None else f", pooling {manifest.pooling}")
    yield counted(len(manifest.labels), "label"), ", ".join(manifest.labels)
    yield from _backbone(manifest.backbone)
    yield "method", manifest.method
    yield "parameters", _parameters(manifest)
    yield "weights", size(weight_bytes(manifest))
    yield "lineage", " ← ".join(lineage)
    yield "created", f"{manifest.created}, with onetrunk {manifest.onetrunk}"
    yield "path", str(stored.path)


def _backbone(backbone: BackboneRecord) -> Rows:
    yield "backbone", f"{backbone.name}, {counted(backbone.layers, 'layer')} of {backbone.hidden_size}"
    yield "revision", backbone.revision or "-"
    yield "weights sha256", backbone.fingerprint
    yield "tokenizer sha256", backbone.tokenizer


def _parameters(manifest: Manifest) -> str:
    own = manifest.parameters
    return f"{own.trained:,} trained, {own.trained / own.backbone:.2%} of the backbone's {own.backbone:,}"


def _data(manifest: Manifest) -> Iterator[tuple[str, int, str, str]]:
    for split, record in manifest.data.items():
        yield split, record.rows, record.source, record.sha256


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping | list) else str(value)
