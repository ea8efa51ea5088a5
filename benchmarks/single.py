"""One short text, one adapter, from string to scores: `OneTrunk.predict` against `transformers.pipeline`."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.equality import TOLERANCES, Precision, WrongOutput, check
from benchmarks.timing import interleave
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.device import DTYPES
from onetrunk.core.backbones.repository import locate
from onetrunk.core.data.splits import Splits
from onetrunk.core.data.training_data import read_train_data
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.training.job import TrainJob
from onetrunk.core.training.pipeline import train_adapter
from onetrunk.core.training.settings import TrainSettings

KEY = "single text qv8"
LABELS, ROWS = 5, 80
"""Intents of the adapter, and rows of each that it is trained on."""

Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A trained adapter of an intent task in a store, pooled so that transformers has its head, too."""

    backbone: Backbone
    store: Store
    version: StoredVersion
    labels: tuple[str, ...]


class Single(ABC):
    """One way to answer one text; `run` is what is timed."""

    precision: Precision = "fp32"

    @abstractmethod
    def prepare(self, stored: Stored) -> None:
        """Load backbone and adapter."""

    @abstractmethod
    def run(self, text: str) -> Scores:
        """Return the probability of each label."""


class Predict(Single):
    """`OneTrunk.predict`."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision

    def prepare(self, stored: Stored) -> None:
        """Load the adapter from the store."""
        backbone = replace(stored.backbone, dtype=DTYPES[self.precision])
        self._trunk = OneTrunk(backbone, store=stored.store)
        self._trunk.load(stored.version.name)
        self._adapters = [stored.version.name]

    def run(self, text: str) -> Scores:
        """Predict."""
        ((answer,),) = self._trunk.predict([text], self._adapters)
        scores: Scores = answer.result["scores"]
        return scores


class Pipeline(Single):
    """`transformers.pipeline` on the merged model."""

    def prepare(self, stored: Stored) -> None:
        """Merge the adapter and build the pipeline."""
        from transformers import pipeline

        self._pipe = pipeline(
            "text-classification",
            model=peft_classifier(stored).merge_and_unload(),
            tokenizer=stored.backbone.read_tokenizer(),
            device=stored.backbone.device,
            top_k=None,
        )

    def run(self, text: str) -> Scores:
        """Call the pipeline."""
        answers: Any  # a list of dictionaries, whatever the signature says
        (answers,) = self._pipe([text])
        return {answer["label"]: answer["score"] for answer in answers}


SINGLES: dict[str, Callable[[], Single]] = {
    "pipeline fp32": Pipeline,
    "ours fp32 predict": partial(Predict, "fp32"),
    "ours bf16 predict": partial(Predict, "bf16"),
    "ours int8 predict": partial(Predict, "int8"),
}


def peft_classifier(stored: Stored) -> Any:
    """Return the adapter in transformers' model, loaded as its card says; fp32, for inference."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    folder, _ = locate(stored.backbone.name, stored.backbone.revision)
    names = dict(enumerate(stored.labels))
    base = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(names), id2label=names, dtype=torch.float32
    )
    return PeftModel.from_pretrained(base, str(stored.version.path)).to(stored.backbone.device).eval()


def right_scores(stored: Stored, text: str) -> Tensor:
    """Return the probabilities (labels,) by the plainest way: tokenizer, PEFT's model, softmax."""
    inputs = stored.backbone.read_tokenizer()(text, return_tensors="pt").to(stored.backbone.device)
    with torch.inference_mode():
        logits: Tensor = peft_classifier(stored)(**inputs).logits[0]
    return logits.softmax(-1)


def train_one(backbone: Backbone, data: Path, scratch: Path) -> Stored:
    """Train an adapter on a few rows of five of clinc150's intents, and store it."""
    lines = (data / "clinc150" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line]
    labels = sorted({row["label"] for row in rows})[:LABELS]
    file = scratch / "single.jsonl"
    kept = [row for label in labels for row in [r for r in rows if r["label"] == label][:ROWS]]
    file.write_text("\n".join(map(json.dumps, kept)) + "\n", encoding="utf-8")
    host, store = PluginHost.discover(), Store(scratch / "store")
    settings = TrainSettings(pooling="cls", rank=8, alpha=16.0, targets=("query", "value"), epochs=1)
    splits = read_train_data(host.task("intent"), Splits(file))
    result = train_adapter(host, store, TrainJob("intent", "single", splits, settings), backbone)
    assert result.stored is not None
    return Stored(backbone, store, result.stored, result.stored.read().manifest.labels)


def run_single(
    stored: Stored, text: str, singles: Mapping[str, Callable[[], Single]], rounds: int, least: float
) -> dict[str, Any]:
    """Compare everyone's scores of `text`, time those that are right, and return the workload's record."""
    expected = right_scores(stored, text)
    ready = {name: make() for name, make in singles.items()}
    records = {name: verdict(single, stored, text, expected) for name, single in ready.items()}
    calls = {
        name: partial(single.run, text) for name, single in ready.items() if records[name]["status"] == "ok"
    }
    for name, timing in interleave(calls, rounds, least, stored.backbone.device).items():
        records[name] |= timing.to_json()
    tokens = len(stored.backbone.read_tokenizer()(text)["input_ids"])
    return {"texts": 1, "tokens": tokens, "text": text, "variants": records}


def verdict(single: Single, stored: Stored, text: str, expected: Tensor) -> dict[str, Any]:
    """Prepare and run `single` once: `ok` with its error, or `failed` with the reason."""
    record = {"precision": single.precision, "kind_of_error": TOLERANCES[single.precision].kind}
    single.prepare(stored)
    scores = single.run(text)
    try:
        if missing := set(stored.labels) - scores.keys():
            raise WrongOutput(f"no score for {', '.join(sorted(missing))}")
        found = torch.tensor([scores[label] for label in stored.labels])
        return {**record, "status": "ok", "error": check(found, expected, single.precision)}
    except WrongOutput as reason:
        return {**record, "status": "failed", "reason": str(reason)}
