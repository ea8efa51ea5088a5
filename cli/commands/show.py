"""`adapters show`: show the details of an adapter."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from onetrunk.adapters.errors import OneTrunkError, first_few
from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.cli.number_format import counted, metric_rows, size, weight_bytes
from onetrunk.cli.output import emit_json, json_option, print_label_tables, say, table

_LABELS_SHOWN = 20


@click.command("show")
@click.argument("ref")
@json_option
def command(ref: str, as_json: bool) -> None:
    """Show the details of the adapter REF: task, labels, backbone, data, results (also by label), settings,
    and its lineage (the adapters that it was trained from).

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
        emit_json(
            {
                "ref": stored.ref,
                "current": stored.is_current,
                "aliases": list(stored.aliases),
                "path": str(stored.path),
                "origin": None if stored.origin is None else str(stored.origin),
                "cached": stored.is_cached,
                "lineage": lineage,
                **manifest.to_json(),
            }
        )
    else:
        _print(stored, manifest, lineage)


def _lineage(store: Store, stored: StoredVersion, manifest: Manifest) -> list[str]:
    """Return the references of the version, of its parent, of the parent's parent, and so on."""
    chain, parent = [stored.ref], manifest.parent
    while parent is not None and parent not in chain:
        chain.append(parent)
        try:
            parent = read_manifest(store.resolve(parent).path).parent
        except OneTrunkError:  # this parent was removed or cannot be read
            parent = None
    return chain


def _print(stored: StoredVersion, manifest: Manifest, lineage: list[str]) -> None:
    splits = list(manifest.metrics)
    table(("adapter", stored.ref), _about(stored, manifest, lineage))
    data = ((split, own.rows, own.source, own.sha256) for split, own in manifest.data.items())
    _below(("data", "rows", "source", "sha256"), data, right=["rows"])
    _below(("result", *splits), metric_rows(manifest.metrics), right=splits)
    for split, metrics in manifest.metrics.items():
        print_label_tables(metrics, "--json prints all", f" ({split})")
    _below(("training", ""), ((name, _plain(value)) for name, value in manifest.training.items()))
    if manifest.settings:
        _below(("decoder", ""), ((name, _plain(value)) for name, value in manifest.settings.items()))
    files = ((name, size(record.bytes), record.sha256) for name, record in manifest.files.items())
    _below(("file", "size", "sha256"), files, right=["size"])
    _below(("probe",), ((json.dumps(text, ensure_ascii=False),) for text in manifest.probe.texts))


def _below(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    say()
    table(columns, rows, right=right)


def _about(stored: StoredVersion, manifest: Manifest, lineage: list[str]) -> Iterator[tuple[str, str]]:
    yield "current", f"yes, {stored.name} means it" if stored.is_current else "no"
    if stored.aliases:
        yield "aliases", ", ".join(stored.aliases)
    if stored.origin is not None:
        use = ", used by its location without `adapters pull`" if stored.is_cached else ""
        yield "origin", f"{stored.origin}, following {stored.origin.follows}{use}"
    yield "task", f"{manifest.task}, of {manifest.plugin.distribution} {manifest.plugin.version}"
    yield "level", manifest.level + ("" if manifest.pooling is None else f", pooling {manifest.pooling}")
    yield counted(len(manifest.labels), "label"), first_few(manifest.labels, _LABELS_SHOWN)
    backbone, trained = manifest.backbone, manifest.parameters.trained
    yield "backbone", f"{backbone.name}, {counted(backbone.layers, 'layer')} of {backbone.hidden_size}"
    yield "revision", backbone.revision or "-"
    yield "weights sha256", backbone.fingerprint
    yield "tokenizer sha256", backbone.tokenizer
    yield "method", manifest.method
    share = trained / manifest.parameters.backbone
    yield "parameters", f"{trained:,} trained, {share:.2%} of the backbone's {manifest.parameters.backbone:,}"
    yield "weights", size(weight_bytes(manifest))
    yield "lineage", " ← ".join(lineage)
    yield "created", f"{manifest.created}, with onetrunk {manifest.onetrunk}"
    yield "path", str(stored.path)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping | list) else str(value)
