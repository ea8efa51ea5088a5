"""The settings of a training run: what a user may choose, checked as a whole."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Literal

from onetrunk.core.errors import UsageError

Method = Literal["lora", "head", "full"]

LEARNING_RATES = {"lora": 1e-3, "head": 3e-3, "full": 1e-4}
"""Learning rate by method, where the user gives none."""

HEAD_LEARNING_RATE = 3e-3
"""Learning rate of the head, where the user gives none: it starts from nothing and has to go further."""


LEAST_EPOCHS, MOST_EPOCHS, ENOUGH_STEPS = 3, 20, 500
"""Epochs, where the user gives none: for about so many steps in all, within these bounds."""

LEAST_TOKENS, MOST_TOKENS, LEAST_STEPS = 256, 512, 16
"""Tokens of a batch, where the user gives none: for at least so many steps an epoch, within these bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How to train.

    method: `lora` (the adapter and its head), `head` (the head alone) or `full` (a copy of the whole encoder, as
        a baseline to compare with; never stored).
    pooling: `auto` is what the backbone declares.
    rank, alpha: of the updates, which are scaled by alpha / rank.
    targets: modules of a layer to adapt, by name or `all`; which there are is the backbone's to say.
    layers: `all` or `last-K`.
    lr, head_lr: peak learning rates; None picks for the user.
    warmup: share of all steps over which the rates rise; they fall linearly to zero afterwards.
    epochs: passes over the data, at most; None is `LEAST_EPOCHS`, and more where data are few.
    batch_tokens: packed tokens a step, at most; None is `MOST_TOKENS`, and less where data are few.
    dropout: on the input of the updates (`full`: in the encoder's own layers) and in the head.
    clip: largest gradient norm; 0 leaves gradients as they are.
    patience: epochs without a better dev result before stopping; 0 never stops early.
    class_weights: `balanced` weighs each label by the inverse of its frequency.
    precision: of the frozen trunk; trainable weights are float32 throughout.
    """

    method: Method = "lora"
    pooling: Literal["auto", "cls", "mean"] = "auto"
    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ("all",)
    layers: str = "all"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float | None = None
    head_lr: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.06
    epochs: int | None = None
    batch_tokens: int | None = None
    dropout: float = 0.1
    clip: float = 1.0
    patience: int = 3
    seed: int = 0
    class_weights: Literal["none", "balanced"] = "none"
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Check the settings. Raises UsageError that lists every fault."""
        wrong = [message for holds, message in self._laws() if not holds]
        if wrong:
            raise UsageError("; ".join(wrong))

    def _laws(self) -> list[tuple[bool, str]]:
        return [
            (1 <= self.rank <= 1024, f"rank must be 1 to 1024, not {self.rank}"),
            (0 < self.alpha < inf, f"alpha must be positive, not {self.alpha}"),
            (bool(self.targets), "targets are empty; name modules, or all"),
            (
                _layer_count(self.layers) != 0,
                f"layers must be 'all' or 'last-K' with K ≥ 1, not {self.layers!r}",
            ),
            (self.lr is None or 0 < self.lr < inf, f"lr must be positive, not {self.lr}"),
            (self.head_lr is None or 0 < self.head_lr < inf, f"head-lr must be positive, not {self.head_lr}"),
            (0 <= self.weight_decay < inf, f"weight-decay must not be negative, not {self.weight_decay}"),
            (0 <= self.warmup < 1, f"warmup is a share of all steps, 0 to below 1, not {self.warmup}"),
            (self.epochs is None or self.epochs >= 1, f"epochs must be at least 1, not {self.epochs}"),
            (
                self.batch_tokens is None or self.batch_tokens >= 16,
                f"batch-tokens must be at least 16, not {self.batch_tokens}",
            ),
            (0 <= self.dropout < 1, f"dropout must be 0 to below 1, not {self.dropout}"),
            (self.clip >= 0, f"clip must not be negative, not {self.clip}"),
            (self.patience >= 0, f"patience must not be negative, not {self.patience}"),
            (
                self.precision != "int8",
                "precision int8 serves only; train in fp32 or bf16, and predict in int8",
            ),
            (0 <= self.seed < 2**63, f"seed must be 0 to 2^63 - 1, not {self.seed}"),
        ]

    def chosen_pooling(self, declared: Literal["cls", "mean"]) -> Literal["cls", "mean"]:
        """Return the pooling of a text, where the backbone has `declared` its own."""
        return declared if self.pooling == "auto" else self.pooling

    @property
    def weight_lr(self) -> float:
        """Peak learning rate of the updates, or of the encoder's copy."""
        return LEARNING_RATES[self.method] if self.lr is None else self.lr

    @property
    def top_lr(self) -> float:
        """Peak learning rate of the head."""
        return HEAD_LEARNING_RATE if self.head_lr is None else self.head_lr

    def adapted_layers(self, layers: int) -> range:
        """Return the layers to adapt of an encoder of `layers`. Raises UsageError when it has fewer."""
        count = _layer_count(self.layers)
        if count is not None and count > layers:
            raise UsageError(f"layers {self.layers!r} asks for more than the backbone's {layers}")
        return range(0 if count is None else layers - count, layers)

    def adapted_modules(self, known: Collection[str]) -> tuple[str, ...]:
        """Return the modules to adapt among those `known` of an encoder, in their order. Raises UsageError."""
        if unknown := [target for target in self.targets if target not in (*known, "all")]:
            raise UsageError(f"no module {unknown[0]!r} in this encoder; known: all, {', '.join(known)}")
        return tuple(module for module in known if module in self.targets or "all" in self.targets)

    def planned_tokens(self, tokens: int) -> int:
        """Return the tokens of a batch where an epoch has so many `tokens`."""
        if self.batch_tokens is not None:
            return self.batch_tokens
        return min(MOST_TOKENS, max(LEAST_TOKENS, tokens // LEAST_STEPS))

    def planned_epochs(self, steps: int) -> int:
        """Return how many epochs to plan where one has so many `steps`."""
        if self.epochs is not None:
            return self.epochs
        return min(MOST_EPOCHS, max(LEAST_EPOCHS, -(-ENOUGH_STEPS // max(1, steps))))

    def to_json(self) -> dict[str, Any]:
        """Return the settings with what was picked for the user written out."""
        return {**asdict(self), "targets": list(self.targets), "lr": self.weight_lr, "head_lr": self.top_lr}


def _layer_count(layers: str) -> int | None:
    """Return K of `last-K`, None for `all`, 0 for what is neither."""
    if layers == "all":
        return None
    kind, _, count = layers.partition("-")
    return int(count) if kind == "last" and re.fullmatch("[0-9]{1,9}", count) else 0
