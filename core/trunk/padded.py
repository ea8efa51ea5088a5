"""The trunk of an encoder that the packed one does not know: transformers' model over padded batches.

Adapters stay data. The model's linears read the adapter of the block that is running from a context variable, so
that nothing is grafted in, and threads share one model. A batch of several adapters is run adapter by adapter:
models such as DeBERTa put more than the texts' rows through a linear, so that no split of rows would be right.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor, nn

from onetrunk.adapters.methods.lora import Lora, Patch, Target, patched_linear
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.transformers_encoder import build_model
from onetrunk.core.errors import UsageError
from onetrunk.core.trunk.attention_blocks import AttentionBlock, lay_out
from onetrunk.core.trunk.calibration import calibration_batch
from onetrunk.core.trunk.dropout import Masks
from onetrunk.core.trunk.lora_application import SharedStates
from onetrunk.core.trunk.packed import Trunk
from onetrunk.core.trunk.packing import Packed, Part, Segment
from onetrunk.core.trunk.weights import Linear, with_noise

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Running:
    """What the modules of a model need to know of the block that is running.

    rows: (count * length,) the row of the part for each row of the block.
    """

    adapter: Lora | None
    part: Part
    rows: Tensor
    lora_masks: Masks | None

    def mask(self, x: Tensor) -> Tensor | None:
        """Return the dropout mask for inputs (rows, width); none where they are no tokens but positions, say."""
        if self.lora_masks is None or len(x) != len(self.rows):
            return None
        return self.lora_masks.of(x, self.part.segments).index_select(0, self.rows)


_RUNNING: ContextVar[_Running | None] = ContextVar("running", default=None)


@contextmanager
def _set_running(batch: _Running) -> Iterator[None]:
    token = _RUNNING.set(batch)
    try:
        yield
    finally:
        _RUNNING.reset(token)


class _AdaptableLinear(nn.Linear):
    """A linear that adds the update which the running adapter has for it."""

    def __init__(self, frozen: nn.Linear, target: Target) -> None:
        shape = (frozen.in_features, frozen.out_features)
        super().__init__(*shape, bias=frozen.bias is not None, device="meta")
        self.weight, self.bias = frozen.weight, frozen.bias
        self._product = Linear(frozen.weight, frozen.bias)
        self._target = target

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, d_in) to (…, d_out)."""
        batch = _RUNNING.get()
        update = None
        if batch is not None and batch.adapter is not None:
            layer, module = self._target
            update = batch.adapter.on(layer, (module,), self.out_features)
        if batch is None or update is None:
            return super().forward(x)
        rows = x.reshape(-1, x.shape[-1])
        patches = [Patch(0, len(rows), update)]
        return patched_linear(rows, self._product, patches, batch.mask(rows)).view(*x.shape[:-1], -1)


class PaddedTrunk(Trunk):
    """A backbone ready to run through transformers. Immutable and safe to share between threads.

    model: the bare encoder, with linears that take adapters.
    """

    def __init__(self, model: nn.Module, config: Any) -> None:
        self._model = model
        self._config = config

    @classmethod
    def build(cls, backbone: Backbone, dtype: torch.dtype) -> Self:
        """Build a trunk of `backbone` on its device, in `dtype`. Raises UsageError for int8."""
        if dtype == torch.int8:
            raise UsageError(f"precision int8 is for packed encoders, not for {backbone.family.model_type}")
        _say_once(backbone.family.model_type)
        model = build_model(backbone.config, backbone.read_tensors(), backbone.device)
        _make_adaptable(model, backbone)
        trunk = cls(model, backbone.config)
        texts = calibration_batch(backbone) if dtype != torch.float32 else None
        exact = None if texts is None else trunk._states(texts)
        for parameter in model.parameters():  # buffers keep their precision: positions are computed from some
            parameter.data = parameter.data.to(dtype, copy=True)  # they may be mapped from a file
        if texts is not None and exact is not None:
            trunk._measure(texts, exact)
        return trunk

    def with_graphs(self) -> PaddedTrunk:
        """Return the trunk itself: transformers' models take other paths from batch to batch."""
        return self

    @property
    def device(self) -> torch.device:
        """Where the trunk's weights are."""
        return next(iter(self.tensors().values())).device

    @property
    def dtype(self) -> torch.dtype:
        """What the trunk computes in."""
        return next(iter(self.tensors().values())).dtype

    @property
    def adapter_dtype(self) -> torch.dtype:
        """As `dtype`."""
        return self.dtype

    @property
    def precision(self) -> torch.dtype:
        """As `dtype`."""
        return self.dtype

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the trunk by name; they are the trunk's own: do not write to them."""
        return dict(self._model.named_parameters())

    def _with_noise(self, noise: float, seed: int) -> PaddedTrunk:
        generator = torch.Generator().manual_seed(seed)
        norms = {name for name, own in self.tensors().items() if own.ndim == 1 and name.endswith("weight")}
        shared = {id(own): own for name, own in self.tensors().items() if name not in norms}
        model = copy.deepcopy(self._model, shared)  # which looks up what is not to be copied
        for name, own in model.named_parameters():
            if name in norms:
                own.data = with_noise(own.data, noise, generator)
        return PaddedTrunk(model, self._config)

    @property
    def depth(self) -> int:
        """1: the model runs as a whole."""
        return 1

    @property
    def width(self) -> int:
        """Width of the hidden states."""
        return int(self._config.hidden_size)

    def first_changed(self, lora: Lora) -> int:
        """Return 0 for an adapter that changes any layer, else `depth`."""
        return 0 if lora.updates else self.depth

    def embed(self, packed: Packed) -> Tensor:
        """Return (tokens, 0): nothing but the ids enters the model."""
        return torch.empty(packed.tokens, 0, dtype=self.dtype, device=self.device)

    def _run_part(
        self,
        hidden: Tensor,
        part: Part,
        adapters: Mapping[int, Lora],
        layers: range,
        lora_masks: Masks | None,
        shared: SharedStates | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return the hidden states (tokens, width), which are `hidden` where `layers` is empty."""
        if not layers:
            return hidden
        return torch.cat([self._segment(part, own, adapters, lora_masks) for own in part.segments])

    def _segment(
        self,
        part: Part,
        segment: Segment,
        adapters: Mapping[int, Lora],
        lora_masks: Masks | None,
    ) -> Tensor:
        """Return the hidden states (rows of the segment, width), in packed order."""
        own = slice(segment.start, segment.stop)
        plan = lay_out(_lengths(part.positions[own])).to(part.ids.device)
        rows = torch.arange(segment.start, segment.stop, device=part.ids.device)
        padded = rows if plan.pad is None else rows.index_select(0, plan.pad)
        states = []
        for block, own_rows in zip(
            plan.blocks, padded.split([b.count * b.length for b in plan.blocks]), strict=True
        ):
            running = _Running(adapters.get(segment.slot), part, own_rows, lora_masks)
            with _set_running(running):
                states.append(self._block(part.ids.index_select(0, own_rows).view(block.count, -1), block))
        hidden = torch.cat(states)
        return hidden if plan.unpad is None else hidden.index_select(0, plan.unpad)

    def _block(self, ids: Tensor, block: AttentionBlock) -> Tensor:
        """ids: (count, length).  Returns (count * length, width), padding included."""
        keep = torch.ones_like(ids)
        if block.keep is not None:
            keep = block.keep.view(ids.shape).long()
            ids = ids.masked_fill(keep == 0, self._config.pad_token_id or 0)
        hidden: Tensor = self._model(input_ids=ids, attention_mask=keep)[0]
        return hidden.flatten(0, 1)


def _make_adaptable(model: nn.Module, backbone: Backbone) -> None:
    """Let the linears of `model` obey the batch that is running."""
    for layer, module in backbone.linear_shapes:
        owner, name = _place(model, backbone.family.layout.path(layer, module))
        setattr(owner, name, _AdaptableLinear(getattr(owner, name), (layer, module)))


def _place(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    """Return the module that holds the one at `path`, and the attribute."""
    owner, _, name = path.rpartition(".")
    return model.get_submodule(owner), name


def _lengths(positions: Tensor) -> list[int]:
    """Return the lengths of the sequences whose positions these are, one after the other."""
    starts = (positions == positions[0]).nonzero().flatten().tolist()
    return [stop - start for start, stop in zip(starts, [*starts[1:], len(positions)], strict=True)]


@cache
def _say_once(model_type: str) -> None:
    _log.warning(
        "the packed trunk does not know %s encoders; transformers runs this one, padded and adapter by adapter: "
        "slower, with the same results",
        model_type,
    )
