"""The facts that a card is made from, and its YAML block, from which the Hub takes the filters of its search."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onetrunk.adapters.card.markup import is_number
from onetrunk.adapters.format.manifest import SCHEMA, SPLITS, BackboneRecord, Manifest

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_HUB_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"{_HUB_NAME}/{_HUB_NAME}")
_OLD_HUB_ID = re.compile(_HUB_NAME)
_NOT_IN_DATASET = re.compile(r"[^A-Za-z0-9_.-]+")
_HUB_METRICS = ("accuracy", "f1", "precision", "recall")


@dataclass(frozen=True, slots=True)
class CardMetadata:
    """Metadata that the person who publishes the adapter gives.

    license: identifier such as `apache-2.0`; None if it is not given.
    languages: codes such as `en`.
    datasets: ids of data sets on the Hub.
    """

    license: str | None = None
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """The content of a model card. Equal facts give equal bytes.

    name: the adapter's name.
    summary: the task's description, one line.
    repo: `org/name` of the adapter on the Hub; None for an adapter in a store or a folder.
    has_picture: whether the artifact has a picture of the training curve.
    weight_bytes: size of all weights in bytes; None if it is not known.
    notes: text that a user has written into the card, as `user_text` returns it.
    """

    name: str
    manifest: Manifest
    summary: str
    repo: str | None = None
    metadata: CardMetadata = field(default_factory=CardMetadata)
    has_picture: bool = False
    weight_bytes: int | None = None
    notes: str | None = None


def metadata(facts: CardFacts) -> str:
    """Return the YAML block with its two `---` lines. Unknown values are left out."""
    import yaml
    from huggingface_hub import ModelCardData

    manifest = facts.manifest
    base = _base(manifest.backbone)
    kinds = {_kind(name) for split in manifest.metrics for name, _ in _scores(manifest, split)}
    data = ModelCardData(
        library_name="peft",
        base_model=base,
        base_model_relation=None if base is None else "adapter",
        pipeline_tag=_pipeline(manifest),
        tags=list(tags(manifest)),
        language=list(facts.metadata.languages) or None,
        license=facts.metadata.license,
        datasets=list(facts.metadata.datasets) or None,
        metrics=[name for name in _HUB_METRICS if name in kinds] or None,
        model_name=facts.name,
        eval_results=_results(facts) or None,
    )
    if data.eval_results is None:
        data.pop("model_name")
    # allow_unicode=False: without escapes, PyYAML would read line separators of Unicode back as spaces.
    fields = data.to_dict()  # type: ignore[no-untyped-call]
    text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=False)
    return f"---\n{text}---"


def tags(manifest: Manifest) -> tuple[str, ...]:
    """Return the tags by which a search on the Hub finds the adapter."""
    task = manifest.task
    found = ("onetrunk", f"onetrunk-format-{SCHEMA}", "lora", f"onetrunk-task:{task}", task)
    return tuple(dict.fromkeys(found))


def _base(backbone: BackboneRecord) -> str | None:
    """Return the backbone's Hub id; None for a local folder."""
    name = backbone.name
    known = _HUB_ID.fullmatch(name) or (backbone.revision is not None and _OLD_HUB_ID.fullmatch(name))
    return name if known else None


def _pipeline(manifest: Manifest) -> str:
    return "token-classification" if manifest.level == "token" else "text-classification"


def _results(facts: CardFacts) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    manifest, found = facts.manifest, []
    for split in SPLITS:
        dataset, kind = _dataset(facts, split)
        scores = _scores(manifest, split) if split in manifest.metrics else ()
        found += [
            EvalResult(
                task_type=_pipeline(manifest),
                task_name=facts.summary,
                dataset_name=dataset,
                dataset_type=kind,
                dataset_split=split,
                metric_name=name,
                metric_type=_kind(name),
                metric_value=round(value, 6),
            )
            for name, value in scores
        ]
    return found


def _dataset(facts: CardFacts, split: str) -> tuple[str, str]:
    """Return name and type of the data set, as the Hub calls them. The type must look like a Hub id."""
    if len(facts.metadata.datasets) == 1:
        return facts.metadata.datasets[0], facts.metadata.datasets[0]
    record = facts.manifest.data.get(split)
    name = facts.manifest.task if record is None else record.source
    return name, _NOT_IN_DATASET.sub("-", name).strip("-.") or facts.manifest.task


def _scores(manifest: Manifest, split: str) -> Iterator[tuple[str, float]]:
    """Yield name and value of the metrics of a split, without counts such as the number of rows."""
    for name, value in sorted(manifest.metrics[split].items()):
        if is_number(value) and (isinstance(value, float) or _kind(name) in _HUB_METRICS):
            yield name, float(value)


def _kind(name: str) -> str:
    """Return the Hub's name of a metric, such as `f1` for `macro_f1`; `name` if the Hub has none."""
    last = name.rpartition("_")[2]
    return last if last in _HUB_METRICS else name
