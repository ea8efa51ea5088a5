"""Who trains: the same adapter, data, batches and settings, by OneTrunk and by PEFT with dynamic padding."""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.equality import Precision
from benchmarks.peers import fill_peft, pad, peft_targets
from benchmarks.timing import synchronize
from benchmarks.variants import bare_model
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.device import DTYPES
from onetrunk.core.inference.adapter import Adapter
from onetrunk.core.tasks import Rows
from onetrunk.core.training.encoded_dataset import EncodedDataset
from onetrunk.core.training.loop import AdapterRun, train_together
from onetrunk.core.training.run_state import NO_CALLBACK, TrainingCallback, TrainingRun, planned
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.training.trainable import TrainableAdapter
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.batching import training_batches
from onetrunk.core.trunk.build import trunk_of


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What is learnt.

    start: the adapter to begin from, the same for everyone; float32.  dev: what ours evaluates on, not timed.
    """

    backbone: Backbone
    corpus: EncodedDataset
    dev: EncodedDataset
    start: Adapter
    settings: TrainSettings

    @property
    def tokens(self) -> int:
        """Tokens that are trained on, over all epochs, without padding."""
        return sum(self.corpus.tokens) * self.epochs

    @property
    def epochs(self) -> int:
        """How many passes over the texts."""
        return self.settings.epochs or 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """The loss of every step, and the seconds that the steps took."""

    losses: tuple[float, ...]
    seconds: float


class Trainer(ABC):
    """One way to train. `run` starts from `course.start` each time."""

    def __init__(self, precision: Precision = "fp32") -> None:
        self.precision: Precision = precision

    @abstractmethod
    def run(self, course: Course) -> Outcome:
        """Train once through the course."""

    def plain(self) -> Trainer:
        """Return what is compared with the right losses: itself, unless its batches are its own."""
        return self


def run_of(
    course: Course, trunk: Trunk, seed: int | None = None, callback: TrainingCallback = NO_CALLBACK
) -> AdapterRun:
    """Return a fresh run of `course` over `trunk`; seed: in place of the course's own."""
    own, settings = course.start, course.settings
    if seed is not None:
        settings = replace(settings, seed=seed)
    trainable = TrainableAdapter(
        own.spec, own.labels, course.backbone, trunk, planned(settings, course.corpus), own
    )
    return TrainingRun(f"run {settings.seed}", trainable, course.corpus, course.dev, callback)


class OursTrainer(Trainer):
    """OneTrunk's training loop over packed tokens."""

    def run(self, course: Course) -> Outcome:
        """Train; the evaluation on dev is not counted."""
        losses: list[float] = []
        trunk = trunk_of(course.backbone, DTYPES[self.precision])
        callback = TrainingCallback(step=lambda event: losses.append(event.loss))
        (ended,) = train_together([run_of(course, trunk, callback=callback)], trunk)
        return Outcome(tuple(losses), course.tokens / ended.result().tokens_per_second)


class PeftTrainer(Trainer):
    """A plain loop over PEFT's model.

    batches: `same`, those of ours, or `random`, as many texts each in any order, as most loops have it.
    padded: dynamic padding, to the longest text of the batch; else each text by itself, the reference.
    """

    def __init__(self, precision: Precision = "fp32", batches: str = "same", padded: bool = True) -> None:
        super().__init__(precision)
        self._batches, self._padded = batches, padded

    def plain(self) -> Trainer:
        """Return the same with the batches of ours."""
        return PeftTrainer(self.precision, "same", self._padded)

    def run(self, course: Course) -> Outcome:
        """Train with the optimiser, schedule and clipping that ours has."""
        own, device = course.settings, course.backbone.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(own.seed)
            model = trainable_peft(course, DTYPES[self.precision])
            head = copy.deepcopy(course.start.head).requires_grad_().train()
            for dropout in (part for part in head.modules() if isinstance(part, nn.Dropout)):
                dropout.p = own.dropout
            epochs = [self._epoch(course, epoch) for epoch in range(course.epochs)]
            batches = [batch for epoch in epochs for batch in epoch] if self._batches == "random" else None
            return self._steps(course, model, head, batches or same_batches(course))

    def _epoch(self, course: Course, epoch: int) -> list[list[int]]:
        """Return one epoch of random batches."""
        texts = len(course.corpus.encoded)
        count = len(same_batches(course)) // course.epochs
        order = torch.randperm(texts, generator=torch.Generator().manual_seed(epoch)).tolist()
        size = -(-texts // count)
        return [order[i : i + size] for i in range(0, texts, size)]

    def _steps(self, course: Course, model: Any, head: nn.Module, batches: Sequence[list[int]]) -> Outcome:
        weights = [p for p in model.parameters() if p.requires_grad]
        optimizer, schedule = optimisation(course.settings, weights, list(head.parameters()), len(batches))
        losses = []
        synchronize(course.backbone.device)
        begin = time.perf_counter()
        for batch in batches:
            loss = self._loss(course, model, head, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if course.settings.clip:
                nn.utils.clip_grad_norm_([*weights, *head.parameters()], course.settings.clip)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        synchronize(course.backbone.device)
        return Outcome(tuple(losses), time.perf_counter() - begin)

    def _loss(self, course: Course, model: Any, head: nn.Module, batch: Sequence[int]) -> Tensor:
        device = course.backbone.device
        texts = [course.corpus.encoded[i] for i in batch]
        groups = [texts] if self._padded else [[text] for text in texts]
        hidden = []
        for group in groups:
            ids, mask = pad(group, device)
            hidden.append(model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()])
        lengths = torch.tensor([0, *(text.tokens for text in texts)], device=device)
        rows = Rows(lengths.cumsum(0), lengths.new_empty(0))
        targets = torch.tensor([t for i in batch for t in course.corpus.targets[i]], device=device)
        return course.start.spec.loss(head(torch.cat(hidden).float(), rows), targets, None)


def same_batches(course: Course) -> list[list[int]]:
    """Return the batches of all epochs, as OneTrunk cuts and orders them."""
    own, order = course.settings, torch.Generator().manual_seed(course.settings.seed)
    tokens = course.corpus.tokens
    budget = own.planned_tokens(sum(tokens))
    epochs = [training_batches(tokens, budget, order) for _ in range(course.epochs)]
    return [batch for epoch in epochs for batch in epoch]


def trainable_peft(course: Course, dtype: torch.dtype) -> Any:
    """Return PEFT's model of the start adapter: the encoder in `dtype`, the updates float32, as PEFT keeps them."""
    from peft import LoraConfig, get_peft_model

    own = course.settings
    config = LoraConfig(
        r=own.rank,
        lora_alpha=int(own.alpha),
        lora_dropout=own.dropout,
        target_modules=peft_targets(course.start.lora),
    )
    model = get_peft_model(bare_model(course.backbone, dtype), config, adapter_name="start")
    fill_peft(model, "start", course.start.lora)
    # transformers' own dropout, on the frozen branches, is not part of these settings.
    for name, part in model.named_modules():
        if isinstance(part, nn.Dropout) and "lora_dropout" not in name:
            part.p = 0.0
    return model.train()


def optimisation(
    settings: TrainSettings, weights: Sequence[Tensor], head: Iterable[Tensor], steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Return fused AdamW with a rate for the updates and one for the head, linear up and then down to zero."""
    groups: list[dict[str, Any]] = [
        {"params": list(weights), "lr": settings.weight_lr},
        {"params": list(head), "lr": settings.top_lr},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
    rise = max(1, round(settings.warmup * steps))

    def factor(step: int) -> float:
        return min((step + 1) / rise, max(0.0, (steps - step) / max(1, steps - rise)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
