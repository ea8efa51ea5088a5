"""`PaddedTrunk`: the trunk of an encoder that transformers' model runs, over padded batches.

The linear modules of the model read the adapter to apply from a context variable, so that threads share one model.
Adapters run one after another: models such as DeBERTa put rows through a linear module that belong to no text, such
as positions, so that the rows of a batch cannot be split by adapter.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onetrunk.adapters.methods.lora import Lora, Patch, Target, patched_linear
from onetrunk.adapters.methods.target_modules import Layout
from onetrunk.core.trunk.attention import lay_out
from onetrunk.core.trunk.base import Trunk, run_parts
from onetrunk.core.trunk.dropout import Masks
from onetrunk.core.trunk.packing import Packed, Part, Segment
from onetrunk.core.trunk.weights import Linear, noised


@dataclass(frozen=True, slots=True)
class _Running:
    """The padded block of sequences that the model runs on this thread.

    adapter: None without one.
    part: the part of the batch that has these sequences.
    rows: (count * length,) int64, the row of the part of each row of the block.
    lora_masks: dropout of the inputs of the updates, None without dropout.
    """

    adapter: Lora | None
    part: Part
    rows: Tensor
    lora_masks: Masks | None

    def mask(self, x: Tensor) -> Tensor | None:
        """Return the dropout mask of inputs x, (rows, width); None if the rows are not the tokens of the block."""
        if self.lora_masks is None or len(x) != len(self.rows):
            return None
        return self.lora_masks.of(x, self.part.segments).index_select(0, self.rows)


_RUNNING: ContextVar[_Running | None] = ContextVar("running", default=None)


class _AdaptableLinear(nn.Linear):
    """A linear module that adds the update of the running adapter."""

    def __init__(self, frozen: nn.Linear, target: Target) -> None:
        shape = (frozen.in_features, frozen.out_features)
        super().__init__(*shape, bias=frozen.bias is not None, device="meta")
        self.weight, self.bias = frozen.weight, frozen.bias
        self._product = Linear(frozen.weight, frozen.bias)
        self._target = target

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, d_in) to (…, d_out)."""
        block = _RUNNING.get()
        update = None
        if block is not None and block.adapter is not None:
            layer, module = self._target
            update = block.adapter.on(layer, (module,), self.out_features)
        if block is None or update is None:
            return super().forward(x)
        rows = x.reshape(-1, x.shape[-1])
        patches = [Patch(0, len(rows), update)]
        return patched_linear(rows, self._product, patches, block.mask(rows)).view(*x.shape[:-1], -1)


class PaddedTrunk(Trunk):
    """The trunk of an encoder that transformers runs; see `base.Trunk`.

    model: the encoder without a head; `make_adaptable` has changed it if it is to run adapters.
    config: its configuration in transformers.
    """

    def __init__(self, model: nn.Module, config: Any) -> None:
        weight = next(model.parameters())
        self.device = weight.device
        self.dtype = self.adapter_dtype = self.precision = weight.dtype
        self.depth, self.width = 1, int(config.hidden_size)  # the model runs as one layer
        self._model = model
        self._config = config

    def with_noise(self, noise: float, seed: int) -> PaddedTrunk:
        """Return a trunk with relative noise on the weights of its norms. It shares all other weights."""
        generator = torch.Generator().manual_seed(seed)
        norms = {name for name, own in self.tensors().items() if own.ndim == 1 and name.endswith("weight")}
        shared = {id(own): own for name, own in self.tensors().items() if name not in norms}
        model = copy.deepcopy(self._model, shared)  # the second argument has what is not copied
        for name, own in model.named_parameters():
            if name in norms:
                own.data = noised(own.data, noise, generator)
        return PaddedTrunk(model, self._config)

    def first_changed(self, lora: Lora) -> int:
        """Return 0 for an adapter that changes any layer, else `depth`."""
        return 0 if lora.updates else self.depth

    def tensors(self) -> dict[str, Tensor]:
        """Return all weights by name. They are not copies: do not write to them."""
        return dict(self._model.named_parameters())

    def embed(self, packed: Packed) -> Tensor:
        """Return an empty tensor, (tokens, 0): the model reads the token ids themselves."""
        return torch.empty(packed.tokens, 0, dtype=self.dtype, device=self.device)

    def run(
        self,
        hidden: Tensor,
        packed: Packed,
        adapters: Mapping[int, Lora],
        layers: range | None = None,
        lora_masks: Masks | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        """Run the model, or nothing if `layers` is empty; see `base.Trunk.run`. Returns (tokens, width)."""
        entering = hidden if source is None else hidden.index_select(0, source)
        if layers is not None and not layers:
            return entering

        def run_part(_: Tensor, part: Part, masks: Masks | None) -> Tensor:
            return torch.cat([self._segment(part, own, adapters, masks) for own in part.segments])

        return run_parts(run_part, entering, packed.parts, lora_masks)

    def _segment(
        self,
        part: Part,
        segment: Segment,
        adapters: Mapping[int, Lora],
        lora_masks: Masks | None,
    ) -> Tensor:
        """Return the hidden states (rows of the segment, width), in packed order."""
        own = slice(segment.start, segment.stop)
        plan = lay_out(_lengths(part.positions[own]), part.ids.device)
        rows = torch.arange(segment.start, segment.stop, device=part.ids.device)
        padded = rows if plan.pad is None else rows.index_select(0, plan.pad)
        states: list[Tensor] = []
        for block, block_rows in zip(
            plan.blocks, padded.split([b.count * b.length for b in plan.blocks]), strict=True
        ):
            ids = part.ids.index_select(0, block_rows).view(block.count, block.length)
            keep = torch.ones_like(ids)
            if block.keep is not None:
                keep = block.keep.view(ids.shape).long()
                ids = ids.masked_fill(keep == 0, self._config.pad_token_id or 0)
            token = _RUNNING.set(_Running(adapters.get(segment.slot), part, block_rows, lora_masks))
            try:
                states.append(self._model(input_ids=ids, attention_mask=keep)[0].flatten(0, 1))
            finally:
                _RUNNING.reset(token)
        hidden = torch.cat(states)
        return hidden if plan.unpad is None else hidden.index_select(0, plan.unpad)


def make_adaptable(model: nn.Module, layout: Layout, targets: Iterable[Target]) -> None:
    """Replace the linear modules of `targets` in `model` by modules that add the update of the running adapter."""
    for layer, module in targets:
        path, _, name = layout.path(layer, module).rpartition(".")
        owner = model.get_submodule(path)
        setattr(owner, name, _AdaptableLinear(getattr(owner, name), (layer, module)))


def _lengths(positions: Tensor) -> list[int]:
    """Return the lengths of packed sequences by their positions, (tokens,)."""
    starts = (positions == positions[0]).nonzero().flatten().tolist()
    return [stop - start for start, stop in zip(starts, [*starts[1:], len(positions)], strict=True)]
