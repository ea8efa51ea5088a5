"""The YAML on top of a card, as the Hub's filters read it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from onetrunk.adapters.card.facts import CardFacts
from onetrunk.adapters.card.markup import is_number, quoted
from onetrunk.adapters.format.manifest import SCHEMA, SPLITS, BackboneRecord, Manifest

_HUB_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"{_HUB_NAME}/{_HUB_NAME}")
_OLD_HUB_ID = re.compile(_HUB_NAME)
_NOT_IN_DATASET = re.compile(r"[^A-Za-z0-9_.-]+")
_HUB_METRICS = ("accuracy", "f1", "precision", "recall")


def metadata(facts: CardFacts) -> str:
    """Return the block of YAML with its fences; what is not known is left out."""
    manifest = facts.manifest
    lines = ["library_name: peft", *_base(manifest.backbone), f"pipeline_tag: {_pipeline(manifest)}"]
    lines += _list("tags", tags(manifest)) + _list("language", facts.languages)
    lines += [] if facts.license is None else [f"license: {quoted(facts.license)}"]
    lines += _list("datasets", facts.datasets) + _list("metrics", _metrics(manifest)) + _model_index(facts)
    return "\n".join(["---", *lines, "---"])


def tags(manifest: Manifest) -> tuple[str, ...]:
    """Return the words by which the adapter is found on the Hub."""
    task = manifest.task
    return tuple(
        dict.fromkeys(("onetrunk", f"onetrunk-format-{SCHEMA}", "lora", f"onetrunk-task:{task}", task))
    )


def _base(backbone: BackboneRecord) -> list[str]:
    """Return what the Hub links the adapter to: nothing for a folder, whose name means nothing there."""
    name = backbone.name
    if _HUB_ID.fullmatch(name) or (backbone.revision is not None and _OLD_HUB_ID.fullmatch(name)):
        return [f"base_model: {quoted(name)}", "base_model_relation: adapter"]
    return []


def _pipeline(manifest: Manifest) -> str:
    return "token-classification" if manifest.level == "token" else "text-classification"


def _list(key: str, values: Sequence[str]) -> list[str]:
    return [f"{key}:", *(f"- {quoted(value)}" for value in values)] if values else []


def _metrics(manifest: Manifest) -> list[str]:
    kinds = {_kind(name) for split in manifest.metrics for name, _ in _figures(manifest, split)}
    return [name for name in _HUB_METRICS if name in kinds]


def _model_index(facts: CardFacts) -> list[str]:
    manifest = facts.manifest
    found = {split: list(_figures(manifest, split)) for split in SPLITS if split in manifest.metrics}
    if not any(found.values()):
        return []
    lines = ["model-index:", f"- name: {quoted(facts.name)}", "  results:"]
    for split, figures in found.items():
        lines += _result(facts, split, figures) if figures else []
    return lines


def _result(facts: CardFacts, split: str, figures: list[tuple[str, float]]) -> list[str]:
    dataset, kind = _dataset(facts, split)
    lines = ["  - task:", f"      type: {_pipeline(facts.manifest)}", f"      name: {quoted(facts.summary)}"]
    lines += ["    dataset:", f"      name: {quoted(dataset)}", f"      type: {quoted(kind)}"]
    lines += [f"      split: {split}", "    metrics:"]
    for name, value in figures:
        lines += [
            f"    - name: {quoted(name)}",
            f"      type: {quoted(_kind(name))}",
            f"      value: {_yaml(value)}",
        ]
    return lines


def _dataset(facts: CardFacts, split: str) -> tuple[str, str]:
    """Return a data set's name and its type, which the Hub wants to look like an id."""
    if len(facts.datasets) == 1:
        return facts.datasets[0], facts.datasets[0]
    record = facts.manifest.data.get(split)
    name = facts.manifest.task if record is None else record.source
    return name, _NOT_IN_DATASET.sub("-", name).strip("-.") or facts.manifest.task


def _figures(manifest: Manifest, split: str) -> Iterator[tuple[str, float]]:
    """Yield the figures of merit of a split; how many rows there were, say, is none."""
    for name, value in sorted(manifest.metrics[split].items()):
        if is_number(value) and (isinstance(value, float) or _kind(name) in _HUB_METRICS):
            yield name, float(value)


def _kind(name: str) -> str:
    """Return the metric's name on the Hub, the last word of ours (f1 of `macro_f1`), or ours where it has none."""
    last = name.rpartition("_")[2]
    return last if last in _HUB_METRICS else name


def _yaml(value: float) -> str:
    """Return a number that YAML 1.1 reads as one: there 1e-05 is a word, and 1.0e-05 a number."""
    digits, e, exponent = repr(round(value, 6)).partition("e")
    return f"{digits}{'' if '.' in digits else '.0'}{e}{exponent}" if e else digits
