"""`check_task`: checks that a task follows the contract, with the code of training and prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import torch

from onetrunk.adapters.methods.lora import Lora
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.kernels import has_int8
from onetrunk.core.backbones.rng import global_generators
from onetrunk.core.data.dataset import Dataset, content_sha256
from onetrunk.core.data.training_data import TrainData
from onetrunk.core.errors import TaskSpecError
from onetrunk.core.inference.adapter import Adapter, build_head
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.inference.logits import LogitsRequest, compute_logits, encode_examples, with_encoded_words
from onetrunk.core.interop.merging import peft_model
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import IGNORE, Example, JSONObject, Labels, Pooling, Record, Targets, TaskSpec
from onetrunk.core.tasks.guarded_calls import json_faults, notes_on, targets_of
from onetrunk.core.tasks.hookspecs import hookimpl
from onetrunk.core.testing.import_check import import_faults
from onetrunk.core.testing.tiny_backbone import tiny_backbone
from onetrunk.core.training.encoded_dataset import encode_dataset
from onetrunk.core.training.job import TrainJob
from onetrunk.core.training.pipeline import train_adapter
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import balanced_weights
from onetrunk.core.trunk.build import trunk_of

_ODD_TEXTS = ("", " \t\n", "\u200b", "🙂👩‍👩‍👧", "東京 café №", "x" * 300, "[SEP] </s>", "a b " * 60)
_SETTINGS = TrainSettings(
    promote="always", rank=4, alpha=8.0, lr=0.01, epochs=8, batch_tokens=128, dropout=0.0, patience=0
)
_TRAINED = ("fp32", "bf16")
"""The precisions to train in. They are the same on every machine."""
_POOLINGS: tuple[Pooling, ...] = ("cls", "mean")
_STAGES = (
    ("read",),
    ("learn_labels",),
    ("targets",),
    ("head",),
    ("loss", "calibrate", "notes"),
    ("decode", "evaluate"),
    ("train",),
    ("reload", "peft"),
)
"""The names of the checks, in order. The checks of a stage run only if all earlier stages pass."""


def check_task(spec: TaskSpec, records: Sequence[Record], *, folder: Path | None = None) -> None:
    """Check that the task `spec` follows the contract, by training, storing, loading and predicting on `records`.

    records: raw records with targets; a dozen are enough.
    folder: an existing empty folder for the backbone and the store; a temporary one by default.
    Raises TaskSpecError that lists every fault. Checks that depend on a failed check are skipped.
    """
    with TemporaryDirectory() as scratch:
        faults = list(_ConformanceChecks(spec, records, folder or Path(scratch)).faults())
    if faults:
        raise TaskSpecError(spec.name, faults)


class _ConformanceChecks:
    """The conformance checks of one task. Each check is a method that yields the faults that it finds."""

    def __init__(self, spec: TaskSpec, records: Sequence[Record], folder: Path) -> None:
        self.spec, self.records = spec, records
        served = (*_TRAINED, *(("int8",) if has_int8() else ()))
        backbone = tiny_backbone(folder / "backbone")
        self.backbones = {name: Backbone.load(backbone, device="cpu", dtype=name) for name in served}
        self.trunks = {name: trunk_of(own) for name, own in self.backbones.items()}
        self.backbone = self.backbones["fp32"]
        self.store = Store(folder / "store")
        self.examples: list[Example] = []
        self.labels: Labels = ()
        self.settings: JSONObject = {}
        self.trained: dict[str, list[np.ndarray]] = {}

    def faults(self) -> Iterator[str]:
        """Yield the faults of `imports`, and of all stages until one fails."""
        yield from self._failures(["imports"])
        for checks in _STAGES:
            if found := list(self._failures(checks)):
                yield from found
                return

    def _failures(self, checks: Iterable[str]) -> Iterator[str]:
        for name in checks:
            try:
                yield from (f"{name}: {fault}" for fault in getattr(self, name)())
            except Exception as error:  # the code of a plugin can raise anything; that is a fault too
                yield f"{name}: raises {type(error).__name__}: {error}"

    def imports(self) -> Iterator[str]:
        """Importing the modules of the task does not import torch, so that listing tasks is fast."""
        return import_faults(self.spec)

    def read(self) -> Iterator[str]:
        """`read` returns a valid `Example`, the same each time, and raises ValueError for an empty record."""
        if not self.records:
            yield "there are no records; expected at least one"
        for number, record in enumerate(self.records, 1):
            example = self.spec.read(record)
            if not isinstance(example, Example) or not isinstance(example.text, str):
                yield f"record {number}: returns {example!r}, expected an Example with a text"
                return
            yield from (f"record {number}: {fault}" for fault in self._word_faults(example))
            if self.spec.read(record) != example:
                yield f"record {number}: returns another Example when it is read again"
            self.examples.append(example)
        yield from self._rejection_faults("an empty record", lambda: self.spec.read({}))
        self.examples = self._with_words(self.examples)

    def _with_words(self, examples: Sequence[Example]) -> list[Example]:
        encoded = encode_examples(self.backbone.encoder, self.spec, examples)
        return list(with_encoded_words(self.spec, examples, encoded))

    def _rejection_faults(self, what: str, call: Callable[[], object]) -> Iterator[str]:
        """Yield a fault unless `call` raises ValueError: the core adds file and line only to this exception."""
        try:
            call()
        except ValueError:
            return
        except Exception as error:  # the code of a plugin can raise anything
            yield f"{what} raises {type(error).__name__}, expected a ValueError for the user"

    def _word_faults(self, example: Example) -> Iterator[str]:
        end = 0
        for start, stop in self.spec.spans(example):
            if not end <= start < stop <= len(example.text):
                yield f"word {start}:{stop} is empty, overlaps the word before it, or is outside the text"
            end = stop

    def learn_labels(self) -> Iterator[str]:
        """The labels are distinct, non-empty strings, and there is at least one."""
        try:
            self.labels = self.spec.learn_labels(self.examples)
        except TaskSpecError as error:
            yield from error.faults
        else:
            yield from () if self.labels else ("there are no labels",)

    def targets(self) -> Iterator[str]:
        """Targets are all integers or all floats, equally many for each unit; integers are label indices."""
        found: list[Targets] = []
        for number, example in enumerate(self.examples, 1):
            try:
                found.append(targets_of(self.spec, example, self.labels, next(filter(None, found), ())))
            except ValueError as error:
                yield f"record {number}: {error}"
                return
        units = [self.spec.units(example) for example in self.examples]
        each = sum(map(len, found)) // max(1, sum(units))
        if not each:
            yield "there are fewer targets than units"
        for number, (own, count) in enumerate(zip(found, units, strict=True), 1):
            if len(own) != each * count:
                yield f"record {number} has {count} units, but {len(own)} targets"
            known = range(IGNORE, max(len(self.labels), each))
            if odd := [target for target in own if type(target) is int and target not in known]:
                yield f"record {number}: the target is {odd[0]!r}, expected an index of {len(self.labels)} labels"
        if all(type(target) is int and target < 0 for own in found for target in own):
            yield "no record has a target that can be trained on"
        if callable(self.spec.labels) and not any(map(self._needs_its_label, self.examples)):
            yield "with labels = () no target raises ValueError"
        unlabelled = replace(self.examples[0], target=None)
        yield from self._rejection_faults("a target of None", lambda: self.spec.targets(unlabelled, ()))

    def _needs_its_label(self, example: Example) -> bool:
        try:
            self.spec.targets(example, ())
        except ValueError:
            return True
        return False

    def odd(self) -> list[Example]:
        """Return examples of unusual texts, such as an empty one."""
        return self._with_words([self.spec.unlabelled(text) for text in _ODD_TEXTS])

    def adapter(self, pooling: Pooling = "cls") -> Adapter:
        """Return an adapter with a fresh head and no LoRA weights."""
        with global_generators(seed=0):
            head = build_head(self.spec, self.backbone, self.labels, pooling).eval()
        return Adapter("check", self.spec, self.labels, pooling, Lora({}), head, {})

    def logits(
        self,
        adapter: Adapter,
        examples: Sequence[Example],
        precision: str = "fp32",
        batch_tokens: int = 512,
    ) -> list[np.ndarray]:
        """Return the logits (units, labels) of each example, with the encoder in `precision`."""
        encoded = encode_examples(self.backbone.encoder, self.spec, examples)
        jobs, trunk = [LogitsRequest(each, 0) for each in encoded], self.trunks[precision]
        return compute_logits(trunk, [adapter], jobs, batch_tokens)

    def head(self) -> Iterator[str]:
        """The head returns one row of logits per unit; the logits of a text are the same in every batch."""
        for pooling in _POOLINGS if self.spec.level == "text" else ("cls",):
            adapter, examples = self.adapter(pooling), [*self.examples, *self.odd()]
            together, alone = self.logits(adapter, examples), self.logits(adapter, examples, batch_tokens=1)
            for example, batch, solo in zip(examples, together, alone, strict=True):
                text = example.text[:40]
                if len(solo) != (units := self.spec.units(example)):
                    yield f"{text!r} has {units} units, but {len(solo)} rows of logits ({pooling})"
                elif not np.allclose(batch, solo, atol=1e-4):
                    yield f"{text!r} has other logits in a batch than alone ({pooling})"

    def loss(self) -> Iterator[str]:
        """The loss is a finite scalar tensor, with and without class weights."""
        logits = torch.from_numpy(np.concatenate(self.logits(self.adapter(), self.examples))).requires_grad_()
        dataset = encode_dataset(self.spec, self.backbone, self.examples, self.labels)
        flat = dataset.target_tensor(range(len(self.examples)))
        countable = flat.dtype == torch.int64 and len(flat) == len(logits)
        balanced = balanced_weights(dataset.targets, len(self.labels)) if countable else None
        for weights in (None, balanced):
            value = self.spec.loss(logits, flat, weights)
            if value.shape != () or not bool(value.isfinite()):
                yield f"returns {value!r}, expected a finite scalar tensor"

    def calibrate(self) -> Iterator[str]:
        """`calibrate`, if the task has it, returns a JSON object."""
        if self.spec.calibrate is not None:
            logits = self.logits(self.adapter(), self.examples)
            found = self.spec.calibrate(self.examples, logits, self.labels)
            yield from json_faults(found)
            self.settings = {key: value for key, value in found.items() if key != "note"}

    def decode(self) -> Iterator[str]:
        """`decode` returns a JSON object for every text, also unusual ones, and the same each time."""
        examples = [*self.odd(), *self.examples]
        for example, logits in zip(examples, self.logits(self.adapter(), examples), strict=True):
            first = self.spec.decode(example, logits, self.labels, self.settings)
            yield from (f"{example.text[:40]!r}: {fault}" for fault in json_faults(first))
            if self.spec.decode(example, logits, self.labels, self.settings) != first:
                yield f"{example.text[:40]!r}: a second call returns another result"

    def evaluate(self) -> Iterator[str]:
        """`evaluate` returns a JSON object in which the primary metric is a finite number."""
        logits = self.logits(self.adapter(), self.examples)
        metrics = self.spec.evaluate(self.examples, logits, self.labels, self.settings)
        yield from json_faults(metrics)
        value = metrics.get(self.spec.primary)
        if not isinstance(value, int | float) or not math.isfinite(value):
            yield f"{self.spec.primary!r} is {value!r}, expected a finite number: it selects the best epoch"

    def notes(self) -> Iterable[str]:
        """`notes` and `encoded_notes`, if the task has them, return strings or TaskNotes."""
        notes_on(self.spec, self.examples)
        notes_on(self.spec, self.examples, "encoded_notes")
        return ()

    def train(self) -> Iterator[str]:
        """The training loss falls in each precision, and the adapter can be stored."""
        data = Dataset(tuple(self.examples), "check", content_sha256(self.examples))
        splits = TrainData(data, data, None, self.labels, held_out=False)
        host = PluginHost.of(SimpleNamespace(tasks=hookimpl(lambda: [self.spec])))
        for precision in _TRAINED:
            job = TrainJob(self.spec.name, precision, splits, _SETTINGS)
            result = train_adapter(host, self.store, job, self.backbones[precision])
            adapter = result.run.trainable.adapter(precision)
            self.trained[precision] = self.logits(adapter, self.examples, precision)
            first, last = (float(result.run.history[i]["loss"]) for i in (0, -1))
            if not last < first:
                yield f"the loss does not fall: {first:.4g} in epoch 1, {last:.4g} in the last ({precision})"

    def reload(self) -> Iterator[str]:
        """The stored adapter loads in each precision; in the precision of its training its logits are unchanged."""
        for precision, trunk in self.trunks.items():
            stored = self.store.resolve(precision if precision in _TRAINED else "fp32")
            adapter = load_adapter(stored.ref, stored.read(), self.spec, self.backbones[precision], trunk)
            again = self.logits(adapter, self.examples, precision)
            if not all(map(np.array_equal, again, self.trained.get(precision, again))):
                yield f"the stored adapter has other logits than the trained one ({precision})"

    def peft(self) -> Iterator[str]:
        """Plain transformers and PEFT load the adapter; if they have its head, their logits are the same."""
        model = peft_model(self.backbone.name, self.store.resolve("fp32").path, len(self.labels))
        encoded = encode_examples(self.backbone.encoder, self.spec, self.examples)
        for example, own, ours in zip(self.examples, encoded, self.trained["fp32"], strict=True):
            if len(own.windows) > 1:
                continue
            with torch.no_grad():
                output = model(input_ids=torch.from_numpy(own.windows[0])[None])
            if not hasattr(output, "logits"):
                return
            theirs = output.logits[0, own.words] if self.spec.level == "token" else output.logits
            if not np.allclose(theirs.numpy(), ours, atol=1e-4):
                yield f"{example.text[:40]!r} has other logits in PEFT; check the attribute `format` of the head"
