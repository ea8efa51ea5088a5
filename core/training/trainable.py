"""What trains: the weights of one adapter (or of a whole copy), their optimiser, and the best state so far."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from onetrunk.adapters.methods.lora import Lora, LowRank, init_lora
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.rng import Randomness
from onetrunk.core.inference.adapter import Adapter, build_head
from onetrunk.core.tasks import Labels, Pooling, Rows, TaskSpec
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.trunk.dropout import Dropout
from onetrunk.core.trunk.packed import Trunk

EMPTY = Lora({})


class Learner:
    """The trainable part of one run. What it draws comes from `settings.seed` alone.

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
        self.spec, self.labels, self.settings = spec, labels, settings
        self.pooling: Pooling = backbone.pooling if settings.pooling == "auto" else settings.pooling
        self.trunk = trunk
        self.randomness = Randomness(settings.seed, trunk.device)
        with self.randomness.as_global():
            self.head = build_head(spec, backbone, labels, self.pooling, settings.dropout)
        lora = _fresh_lora(backbone, settings, self.randomness.host) if start is None else start.lora
        self.lora = _trainable(lora, trunk.device)
        self.copy = _full_copy(backbone) if settings.method == "full" else None
        if start is not None:
            self.head.load_state_dict(start.head.state_dict())
        self._optimizer = self._make_optimizer()
        self._schedule: torch.optim.lr_scheduler.LambdaLR | None = None
        self._best: list[Tensor] | None = None

    @property
    def weights(self) -> list[Tensor]:
        """The trainable tensors below the head."""
        return [*self.copy.tensors().values()] if self.copy is not None else self.lora.parameters

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

    @property
    def first_layer(self) -> int:
        """The first layer that what trains changes; below it the trunk runs as it is, without a graph."""
        if self.copy is not None:
            return 0
        return self.trunk.first_changed(self.lora)

    def running_trunk(self) -> Trunk:
        """Return what the head stands on: the shared trunk, or the copy in the trunk's precision."""
        return self.trunk if self.copy is None else self.copy.cast(self.trunk.dtype)

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

    def loss(self, hidden: Tensor, rows: Rows, targets: Tensor, class_weights: Tensor | None) -> Tensor:
        """Return the loss (a scalar) of the texts whose hidden states (T, H) are laid out as `rows` says."""
        with self.randomness.as_global():
            logits = self.head.train()(hidden, rows)
        return self.spec.loss(logits, targets, class_weights)

    def update(self) -> None:
        """Take one optimiser step by the gradients that are there, clipped, and forget them."""
        if self.settings.clip:
            nn.utils.clip_grad_norm_([*self.weights, *self.head.parameters()], self.settings.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._schedule is not None:
            self._schedule.step()

    def adapter(self, ref: str, settings: dict[str, object] | None = None) -> Adapter:
        """Return the present state as an adapter; it shares the weights, so it is for use between steps."""
        lora = self.running_lora()
        return Adapter(ref, self.spec, self.labels, self.pooling, lora, self.head.eval(), settings or {})

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


def _fresh_lora(backbone: Backbone, settings: TrainSettings, generator: torch.Generator) -> Lora:
    if settings.method != "lora":
        return EMPTY
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


def _full_copy(backbone: Backbone) -> Trunk:
    return Trunk.of(backbone, torch.float32).trainable_copy()


def balanced_weights(targets: Sequence[Sequence[int]], labels: int) -> Tensor:
    """Return (labels,) weights n / (labels * count), 0 for a label without examples; mean 1 over the data."""
    flat = torch.tensor([target for own in targets for target in own if target >= 0])
    counts = torch.bincount(flat, minlength=labels).float()
    return torch.where(counts > 0, counts.sum() / (labels * counts.clamp(min=1)), 0.0)
