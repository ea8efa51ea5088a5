"""What trains: the weights of one adapter, their optimiser, and the best state so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.adapters.methods.lora import Lora, LowRank, init_lora
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.rng import Randomness
from onetrunk.core.errors import TaskSpecError
from onetrunk.core.inference.adapter import Adapter, build_head, head_logits
from onetrunk.core.inference.logits import LogitsRequest, compute_logits
from onetrunk.core.tasks import Labels, Rows, Targets, TaskSpec
from onetrunk.core.tasks.guarded_calls import calling
from onetrunk.core.training.encoded_dataset import Corpus
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.dropout import Dropout


class Trainable(ABC):
    """What one run trains: the weights below the head and the head, their optimiser, and the best state so far.

    weights: float32, the trainable tensors below the head; none where the head trains alone.
    """

    def __init__(
        self,
        spec: TaskSpec,
        labels: Labels,
        settings: TrainSettings,
        randomness: Randomness,
        head: nn.Module,
        weights: list[Tensor],
    ) -> None:
        self.spec, self.labels, self.settings = spec, labels, settings
        self.randomness, self.head, self.weights = randomness, head, weights
        self._optimizer = self._make_optimizer()
        self._schedule: torch.optim.lr_scheduler.LambdaLR | None = None
        self._best: list[Tensor] | None = None

    @abstractmethod
    def logits(self, corpus: Corpus) -> list[np.ndarray]:
        """Return the logits of `corpus` in its order, with the present weights."""

    @property
    def trained_parameters(self) -> int:
        """Number of weights that train, the head's included."""
        return sum(tensor.numel() for tensor in [*self.weights, *self.head.parameters()])

    @property
    def lr(self) -> float:
        """The present learning rate of the weights below the head, or of the head where it trains alone."""
        return float(self._optimizer.param_groups[0]["lr"])

    def schedule(self, steps: int) -> None:
        """Plan the learning rates for `steps` steps: linear up, then linear down to zero."""
        rise = max(1, round(self.settings.warmup * steps))

        def factor(step: int) -> float:
            return min((step + 1) / rise, max(0.0, (steps - step) / max(1, steps - rise)))

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, factor)

    def loss(self, hidden: Tensor, rows: Rows, targets: Tensor, class_weights: Tensor | None) -> Tensor:
        """Return the loss (a scalar) of the texts whose hidden states (T, H) are laid out as `rows` says.

        Raises TaskSpecError for what the head or the loss raises, and where they do not give what they should.
        """
        with self.randomness.as_global():
            logits = head_logits(self.spec, self.head.train(), hidden, rows)
        with calling(self.spec, "loss"):
            loss = self.spec.loss(logits, targets, class_weights)
        if not isinstance(loss, Tensor) or loss.shape != () or not loss.requires_grad:
            fault = f"loss gives {loss!r}, expected a scalar tensor that depends on the logits"
            raise TaskSpecError(self.spec.name, [fault])
        return loss

    def update(self) -> None:
        """Take one optimiser step by the gradients that are there, clipped, and forget them."""
        if self.settings.clip:
            nn.utils.clip_grad_norm_([*self.weights, *self.head.parameters()], self.settings.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._schedule is not None:
            self._schedule.step()

    def is_finite(self) -> bool:
        """Whether every trained weight is a finite number."""
        return all(bool(tensor.isfinite().all()) for tensor in self._state())

    def keep(self) -> None:
        """Remember the present state as the best."""
        self._best = [tensor.detach().clone() for tensor in self._state()]

    def restore(self) -> None:
        """Return to the best state, if one was kept."""
        with torch.no_grad():
            for tensor, best in zip(self._state(), self._best or [], strict=False):
                tensor.copy_(best)

    def _state(self) -> list[Tensor]:
        return [*self.weights, *self.head.state_dict().values()]

    def _make_optimizer(self) -> torch.optim.Optimizer:
        own = self.settings
        groups = [
            {"params": self.weights, "lr": own.weight_lr},
            {"params": list(self.head.parameters()), "lr": own.top_lr},
        ]
        groups = [group for group in groups if group["params"]]
        if own.optimizer == "sgd":
            return torch.optim.SGD(groups, momentum=0.9, weight_decay=own.weight_decay)
        return torch.optim.AdamW(groups, weight_decay=own.weight_decay, fused=True)


class Learner(Trainable):
    """An adapter that trains over a frozen trunk. What it draws comes from `settings.seed` alone.

    start: an adapter to begin from; its updates must have the settings' shapes.
    """

    def __init__(
        self,
        spec: TaskSpec,
        labels: Labels,
        backbone: Backbone,
        trunk: Trunk,
        settings: TrainSettings,
        start: Adapter | None = None,
    ) -> None:
        self.pooling = settings.chosen_pooling(backbone.pooling)
        self.trunk = trunk
        randomness = Randomness(settings.seed, trunk.device)
        with randomness.as_global():
            head = build_head(spec, backbone, labels, self.pooling, settings.dropout)
        lora = _fresh_lora(backbone, settings, randomness.host) if start is None else start.lora
        self.lora = _trainable(lora, trunk.device)
        if start is not None:
            head.load_state_dict(start.head.state_dict())
        super().__init__(spec, labels, settings, randomness, head, self.lora.parameters)

    @property
    def first_layer(self) -> int:
        """The first layer that what trains changes; below it the trunk runs as it is, without a graph."""
        return self.trunk.first_changed(self.lora)

    def logits(self, corpus: Corpus) -> list[np.ndarray]:
        """Return the logits of `corpus` in its order, with the present weights."""
        with torch.no_grad():
            adapter = self.adapter("training")
        jobs = [LogitsRequest(encoded, 0) for encoded in corpus.encoded]
        return compute_logits(self.trunk, [adapter], jobs)

    def running_lora(self) -> Lora:
        """Return the updates as the trunk computes with them; the cast keeps the graph."""
        return self.lora.to(self.trunk.device, self.trunk.dtype)

    def masks(self, rows: int) -> dict[int, Tensor]:
        """Draw the step's dropout masks for the inputs of the updates: by width, (rows, width)."""
        if not self.settings.dropout:
            return {}
        dropout, trunk = Dropout(self.settings.dropout, self.randomness.device), self.trunk
        widths = sorted({update.a.shape[1] for update in self.lora.updates.values()})
        return {width: dropout.draw(torch.Size((rows, width)), trunk.dtype, trunk.device) for width in widths}

    def adapter(self, ref: str, settings: dict[str, object] | None = None) -> Adapter:
        """Return the present state as an adapter; it shares the weights, so it is for use between steps."""
        lora = self.lora.to(self.trunk.device, self.trunk.adapter_dtype)
        return Adapter(ref, self.spec, self.labels, self.pooling, lora, self.head.eval(), settings or {})


def _fresh_lora(backbone: Backbone, settings: TrainSettings, generator: torch.Generator) -> Lora:
    if settings.method != "lora":
        return Lora({})
    layers = settings.adapted_layers(backbone.layers)
    modules = settings.adapted_modules(backbone.family.layout.modules)
    shapes = {
        (layer, module): shape
        for (layer, module), shape in backbone.linear_shapes.items()
        if layer in layers and module in modules
    }
    return init_lora(shapes, settings.rank, settings.alpha, generator)


def _trainable(lora: Lora, device: torch.device) -> Lora:
    """Return float32 leaves of their own."""

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device, torch.float32, copy=True).requires_grad_()

    return Lora({t: LowRank(leaf(u.a), leaf(u.b), u.scale) for t, u in lora.updates.items()})


def balanced_weights(targets: Sequence[Targets], labels: int) -> Tensor:
    """Return (labels,) weights n / (labels * count), 0 for a label without examples; mean 1 over the data."""
    flat = torch.tensor([target for own in targets for target in own if target >= 0])
    counts = torch.bincount(flat, minlength=labels).float()
    return torch.where(counts > 0, counts.sum() / (labels * counts.clamp(min=1)), 0.0)
