"""The settings of a training run, and their checks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, Literal

from onetrunk.core.errors import UsageError

Method = Literal["lora", "head", "full"]
Promote = Literal["always", "better", "never"]

LEARNING_RATES = {"lora": 1e-3, "head": 3e-3, "full": 1e-4}
"""Default learning rate of the weights below the head, by training method."""

HEAD_LEARNING_RATE = 3e-3
"""Default learning rate of the head. It is higher because the head starts from random weights."""

MIN_EPOCHS, MAX_EPOCHS, TARGET_STEPS = 3, 20, 500
"""A run without the setting `epochs` has about `TARGET_STEPS` steps, in `MIN_EPOCHS` to `MAX_EPOCHS` epochs."""

PATIENCE = 3
"""Default number of epochs without a better result on dev before training stops."""

MIN_TOKENS, MAX_TOKENS, MIN_STEPS = 256, 512, 16
"""A run without `batch_tokens` has about `MIN_STEPS` steps per epoch, of `MIN_TOKENS` to `MAX_TOKENS` tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """The settings of a training run.

    method: `lora` trains LoRA weights and the head, `head` only the head. `full` trains a copy of the whole
        encoder, which is not stored, to compare adapters with it.
    pooling: how the hidden states of a text become one vector; `auto` takes the pooling that the backbone declares.
    rank, alpha: rank and scale of the LoRA matrices; the update of a weight is multiplied by alpha / rank.
    targets: names of the backbone's modules that get LoRA weights, or `all`.
    layers: the layers that get LoRA weights: `all`, or `last-K` for the last K layers.
    optimizer: `adamw`, or `sgd` with momentum 0.9.
    lr, head_lr: the highest learning rates of the weights below the head and of the head; None for the default.
    weight_decay: the weight decay of the optimizer.
    warmup: the share of all steps, from 0 to below 1, in which the learning rates rise; then they fall to zero.
    epochs: the largest number of passes over the data; None for a number that depends on the size of the data.
    batch_tokens: the largest number of tokens per step; None for a number that depends on the size of the data.
    dropout: probability of dropout in the head and on the inputs of the LoRA weights; with `full`, in the encoder.
    clip: the largest norm of the gradients; 0 turns clipping off.
    patience: number of epochs without a better result on dev before training stops; 0 turns early stopping off.
        None for `PATIENCE`, or for 0 if dev is too small to justify a stop (see `epoch_choice`).
    seed: seed of all random numbers.
    class_weights: `balanced` weights each label by the inverse of its frequency, `none` weights all labels equally.
    precision: precision of the frozen trunk, such as `fp32`; trainable weights are always float32.
    promote: when the new version becomes the current one of its name. `better`: if it is not worse than the current
        version on the same data, and the first one if its metric on dev is not 0.
    max_windows: the largest number of windows of a training text. A window has as many tokens as the backbone has
        positions. See `TextLimit`.
    options: options of the task, such as {"oos": "off"}; see `TaskSpec.configure`.
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
    patience: int | None = None
    seed: int = 0
    class_weights: Literal["none", "balanced"] = "none"
    precision: str = "auto"
    promote: Promote = "better"
    max_windows: int = 16
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check all settings. Raises UsageError, which lists all faults."""
        wrong = [message for holds, message in self._checks() if not holds]
        if wrong:
            raise UsageError("; ".join(wrong))

    def _checks(self) -> list[tuple[bool, str]]:
        return [
            (1 <= self.rank <= 1024, f"rank must be 1 to 1024, not {self.rank}"),
            (0 < self.alpha < inf, f"alpha must be positive, not {self.alpha}"),
            (bool(self.targets), "targets is empty; name modules, or use all"),
            (
                _layer_count(self.layers) != 0,
                f"layers must be 'all' or 'last-K' with K ≥ 1, not {self.layers!r}",
            ),
            (self.lr is None or 0 < self.lr < inf, f"lr must be positive, not {self.lr}"),
            (self.head_lr is None or 0 < self.head_lr < inf, f"head-lr must be positive, not {self.head_lr}"),
            (0 <= self.weight_decay < inf, f"weight-decay must be 0 or more, not {self.weight_decay}"),
            (
                0 <= self.warmup < 1,
                f"warmup must be at least 0 and below 1, a share of all steps, not {self.warmup}",
            ),
            (self.epochs is None or self.epochs >= 1, f"epochs must be at least 1, not {self.epochs}"),
            (
                self.batch_tokens is None or self.batch_tokens >= 16,
                f"batch-tokens must be at least 16, not {self.batch_tokens}",
            ),
            (0 <= self.dropout < 1, f"dropout must be at least 0 and below 1, not {self.dropout}"),
            (self.clip >= 0, f"clip must be 0 or more, not {self.clip}"),
            (self.patience is None or self.patience >= 0, f"patience must be 0 or more, not {self.patience}"),
            (self.max_windows >= 1, f"max-windows must be at least 1, not {self.max_windows}"),
            (
                self.precision != "int8",
                "precision int8 is for prediction only; train in fp32 or bf16, then predict in int8",
            ),
            (0 <= self.seed < 2**63, f"seed must be 0 to 2^63 - 1, not {self.seed}"),
        ]

    @property
    def weight_lr(self) -> float:
        """The highest learning rate of the weights below the head."""
        return LEARNING_RATES[self.method] if self.lr is None else self.lr

    @property
    def top_lr(self) -> float:
        """The highest learning rate of the head."""
        return HEAD_LEARNING_RATE if self.head_lr is None else self.head_lr

    def adapted_layers(self, layers: int) -> range:
        """Return the indices of the layers that get LoRA weights. Raises UsageError for a K above `layers`.

        layers: the number of layers of the backbone.
        """
        count = _layer_count(self.layers)
        if count is not None and count > layers:
            raise UsageError(f"layers is {self.layers!r}, but the backbone has only {layers} layers")
        return range(0 if count is None else layers - count, layers)

    def adapted_modules(self, known: Collection[str]) -> tuple[str, ...]:
        """Return the modules that get LoRA weights. Raises UsageError if the backbone does not have a module.

        known: the names of the backbone's modules; the result has their order.
        """
        if unknown := [target for target in self.targets if target not in (*known, "all")]:
            raise UsageError(f"the backbone has no module {unknown[0]!r}; known: all, {', '.join(known)}")
        return tuple(module for module in known if module in self.targets or "all" in self.targets)

    def planned_tokens(self, tokens: int) -> int:
        """Return the largest number of tokens per batch. tokens: the number of tokens of the training data."""
        if self.batch_tokens is not None:
            return self.batch_tokens
        return min(MAX_TOKENS, max(MIN_TOKENS, tokens // MIN_STEPS))

    def planned_epochs(self, steps: int) -> int:
        """Return the largest number of epochs. steps: the number of steps of an epoch."""
        if self.epochs is not None:
            return self.epochs
        return min(MAX_EPOCHS, max(MIN_EPOCHS, -(-TARGET_STEPS // max(1, steps))))

    def to_json(self) -> dict[str, Any]:
        """Return the settings of the training as JSON, with the default learning rates filled in."""
        settings = asdict(self)
        del settings["promote"]  # it is about the store, not about the adapter
        return {**settings, "targets": list(self.targets), "lr": self.weight_lr, "head_lr": self.top_lr}


def _layer_count(layers: str) -> int | None:
    """Return K for `last-K`, None for `all`, 0 for any other value."""
    if layers == "all":
        return None
    kind, _, count = layers.partition("-")
    return int(count) if kind == "last" and re.fullmatch("[0-9]{1,9}", count) else 0
