"""The trainable weights of one run: their optimizer, their evaluation, and a copy of their best state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.adapters.methods.lora import Lora, LowRank, init_lora
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.rng import Randomness
from onetrunk.core.errors import TaskSpecError, UsageError
from onetrunk.core.inference.adapter import Adapter, build_head, head_logits
from onetrunk.core.inference.logits import LogitsRequest, compute_logits
from onetrunk.core.tasks import JSONObject, Labels, Rows, Targets, TaskSpec
from onetrunk.core.training.encoded_dataset import EncodedDataset
from onetrunk.core.training.evaluation import Evaluator, task_loss
from onetrunk.core.training.settings import TrainSettings
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.dropout import Dropout


class Trainable(ABC):
    """The trainable weights of one run, with their optimizer. All random numbers come from `settings.seed`.

    trunk: computes the hidden states for the logits.
    randomness: the random generators of the run.
    head: the head, in float32.
    weights: the trainable tensors below the head, in float32; empty if only the head is trained.
    evaluator: evaluates the logits.
    """

    trunk: Trunk
    weights: list[Tensor]
    _optimizer: torch.optim.Optimizer
    _schedule: torch.optim.lr_scheduler.LambdaLR

    def __init__(
        self,
        spec: TaskSpec,
        labels: Labels,
        backbone: Backbone,
        settings: TrainSettings,
        device: torch.device,
    ) -> None:
        self.spec, self.labels, self.settings = spec, labels, settings
        self.pooling = backbone.pooling if settings.pooling == "auto" else settings.pooling
        self.randomness = Randomness(settings.seed, device)
        with self.randomness.as_global():
            self.head = build_head(spec, backbone, labels, self.pooling, settings.dropout)
        self.evaluator = Evaluator(spec, labels)
        self._best: list[Tensor] | None = None

    @abstractmethod
    def adapter(self, ref: str, settings: dict[str, object] | None = None) -> Adapter:
        """Return the current weights as an adapter. It shares the tensors, so the next step changes it.

        ref: the reference of the adapter, for messages.
        settings: the decoder settings.
        """

    def logits(self, dataset: EncodedDataset) -> list[np.ndarray]:
        """Return the current logits of each example, (units, labels). A unit is a text or a word."""
        with torch.no_grad():
            adapter = self.adapter("training")
        jobs = [LogitsRequest(encoded, 0) for encoded in dataset.encoded]
        return compute_logits(self.trunk, [adapter], jobs)

    def trial(self, dev: EncodedDataset, test: EncodedDataset | None) -> dict[str, JSONObject]:
        """Return the metrics of `Evaluator.trial` by split. Raises TaskSpecError for errors in the task's code."""
        i = min(range(len(dev.examples)), key=dev.tokens.__getitem__)  # the shortest text
        (one,) = self.logits(EncodedDataset((dev.examples[i],), (dev.encoded[i],), (dev.targets[i],)))
        return self.evaluator.trial(dev, test, one.shape[1:])

    @property
    def trained_parameters(self) -> int:
        """The number of trainable parameters, including those of the head."""
        return sum(tensor.numel() for tensor in [*self.weights, *self.head.parameters()])

    @property
    def lr(self) -> float:
        """The current learning rate of the weights below the head, or of the head if only the head is trained."""
        return float(self._optimizer.param_groups[0]["lr"])

    def schedule(self, steps: int) -> None:
        """Make an optimizer whose learning rates rise linearly, then fall linearly to zero, in `steps` steps."""
        own = self.settings
        groups = [
            {"params": self.weights, "lr": own.weight_lr},
            {"params": list(self.head.parameters()), "lr": own.top_lr},
        ]
        groups = [group for group in groups if group["params"]]
        if own.optimizer == "sgd":
            self._optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=own.weight_decay)
        else:
            self._optimizer = torch.optim.AdamW(groups, weight_decay=own.weight_decay, fused=True)
        rise = max(1, round(own.warmup * steps))

        def factor(step: int) -> float:
            return min((step + 1) / rise, max(0.0, (steps - step) / max(1, steps - rise)))

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, factor)

    def class_weights(self, train: EncodedDataset) -> Tensor | None:
        """Return the class weights for the loss, (labels,); None if the setting `class_weights` is `none`.

        Raises UsageError unless every unit of `train` has one label index as its target.
        """
        if self.settings.class_weights == "none":
            return None
        for encoded, own in zip(train.encoded, train.targets, strict=True):
            floats = any(isinstance(target, float) for target in own)
            units = self.spec.units_of(len(encoded.words), 1)
            if floats or len(own) != units or max(own, default=0) >= len(self.labels):
                raise UsageError(
                    f"class-weights balanced counts how often each label occurs, but the targets of task "
                    f"{self.spec.name!r} are not one label index per unit; leave the option out"
                )
        return balanced_weights(train.targets, len(self.labels))

    def loss(self, hidden: Tensor, rows: Rows, targets: Tensor, class_weights: Tensor | None) -> Tensor:
        """Return the loss of a batch, a scalar tensor.

        hidden: the hidden states, (tokens, hidden size).
        rows: the positions of the texts and words in `hidden`.
        targets: the concatenated targets of the texts, (targets,).
        class_weights: (labels,); None to weight all labels equally.
        Raises TaskSpecError if the head or the loss of the task raises, or returns a wrong type or shape.
        """
        with self.randomness.as_global():
            logits = head_logits(self.spec, self.head.train(), hidden, rows)
        loss = task_loss(self.spec, logits, targets, class_weights)
        if not loss.requires_grad:
            fault = f"loss returns {loss!r}, expected a scalar tensor that depends on the logits"
            raise TaskSpecError(self.spec.name, [fault])
        return loss

    def update(self) -> None:
        """Clip the gradients, take one optimizer step, and clear the gradients."""
        if self.settings.clip:
            nn.utils.clip_grad_norm_([*self.weights, *self.head.parameters()], self.settings.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._schedule.step()

    def is_finite(self) -> bool:
        """Tell whether all trainable weights are finite."""
        return all(bool(tensor.isfinite().all()) for tensor in self._state())

    def keep(self) -> None:
        """Save the current weights as the best state."""
        self._best = [tensor.detach().clone() for tensor in self._state()]

    def restore(self) -> None:
        """Restore the best state, if one was saved."""
        with torch.no_grad():
            for tensor, best in zip(self._state(), self._best or [], strict=False):
                tensor.copy_(best)

    def _state(self) -> list[Tensor]:
        return [*self.weights, *self.head.state_dict().values()]


class TrainableAdapter(Trainable):
    """A trainable adapter over a frozen trunk.

    lora: the LoRA weights, in float32.
    start: an adapter whose weights are copied; None for new weights. Its LoRA weights must have the shapes that
        `settings` describes.
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
        super().__init__(spec, labels, backbone, settings, trunk.device)
        self.trunk = trunk
        lora = _fresh_lora(backbone, settings, self.randomness.host) if start is None else start.lora
        self.lora = _trainable(lora, trunk.device)
        self.weights = self.lora.parameters
        if start is not None:
            self.head.load_state_dict(start.head.state_dict())

    @property
    def first_layer(self) -> int:
        """The index of the first layer with trainable weights. The layers below it need no gradients."""
        return self.trunk.first_changed(self.lora)

    def running_lora(self) -> Lora:
        """Return the LoRA weights in the precision of the trunk. The conversion passes gradients on."""
        return self.lora.to(self.trunk.device, self.trunk.dtype)

    def masks(self, rows: int) -> dict[int, Tensor]:
        """Draw dropout masks for the inputs of the LoRA weights: {width of an input: mask (rows, width)}.

        rows: the number of tokens of the step.
        """
        if not self.settings.dropout:
            return {}
        dropout, trunk = Dropout(self.settings.dropout, self.randomness.device), self.trunk
        widths = sorted({update.a.shape[1] for update in self.lora.updates.values()})
        return {width: dropout.draw(torch.Size((rows, width)), trunk.dtype, trunk.device) for width in widths}

    def adapter(self, ref: str, settings: dict[str, object] | None = None) -> Adapter:
        """Return the current weights as an adapter; see `Trainable.adapter`."""
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
    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device, torch.float32, copy=True).requires_grad_()

    return Lora({t: LowRank(leaf(u.a), leaf(u.b), u.scale) for t, u in lora.updates.items()})


def balanced_weights(targets: Sequence[Targets], labels: int) -> Tensor:
    """Return class weights, (labels,): n / (labels * count), where `count` is the number of units with the label.

    targets: label indices; negative ones are ignored.
    n is the number of all units that are not ignored. A label without units has the weight 0.
    """
    flat = torch.tensor([each for own in targets for each in own if each >= 0], dtype=torch.int64)
    counts = torch.bincount(flat, minlength=labels).float()
    return torch.where(counts > 0, counts.sum() / (labels * counts.clamp(min=1)), 0.0)
