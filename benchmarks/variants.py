"""What is compared: the interface of a variant, the right answer, and OneTrunk itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.equality import Precision
from benchmarks.workloads import Batch
from onetrunk.adapters.methods.bank import Bank
from onetrunk.adapters.methods.lora import Lora
from onetrunk.adapters.methods.target_modules import BERT_LAYOUT
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.device import DTYPES
from onetrunk.core.inference.cpu_parallel import run_parallel, split_for_threads
from onetrunk.core.trunk.batching import by_budget
from onetrunk.core.trunk.build import trunk_of
from onetrunk.core.trunk.packing import Packed, pack

Gives = Literal["own", "one", "none", "nothing"]
"""Which adapter a variant gives each text: its own, the first one for all, or none; `nothing`: it has no output."""


class Skipped(Exception):
    """A variant cannot be measured here, for a reason that is no fault of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """What a variant is made of.

    adapters: all residents, float32 on the CPU.  scratch: a folder for files that several workloads share.
    name: of the first adapter's settings, for such files.  batch_tokens: budget of a packed batch.
    """

    backbone: Backbone
    adapters: tuple[Lora, ...]
    scratch: Path
    name: str
    batch_tokens: int

    @property
    def device(self) -> torch.device:
        """Where everything runs."""
        return self.backbone.device


class Variant(ABC):
    """One way to answer a batch.

    Only `run` is timed. It starts from token ids and ends with hidden states on the device, in whatever form
    the variant has them; `states` puts them into rows.
    """

    gives: ClassVar[Gives] = "own"

    def __init__(self, precision: Precision = "fp32") -> None:
        self.precision: Precision = precision

    @abstractmethod
    def prepare(self, setup: Setup) -> None:
        """Load everything. Raises Skipped where the variant cannot run."""

    @abstractmethod
    def run(self, batch: Batch) -> Any:
        """Compute the hidden states of `batch`."""

    @abstractmethod
    def states(self, output: Any, batch: Batch) -> Tensor:
        """Return what `run` gave as (tokens, width), the texts in order, without padding."""


def bare_model(
    backbone: Backbone,
    dtype: torch.dtype,
    changed: Mapping[str, Tensor] | None = None,
    attention: str = "sdpa",
) -> Any:
    """Return transformers' model of `backbone` for inference; changed: weights in place of its own."""
    from transformers import AutoModel

    model = AutoModel.from_config(backbone.config, attn_implementation=attention, add_pooling_layer=False)
    model.load_state_dict({**backbone.read_tensors(), **(changed or {})})
    return model.to(backbone.device, dtype).eval().requires_grad_(False)


def merged_weights(backbone: Backbone, lora: Lora) -> dict[str, Tensor]:
    """Return the weights that `lora` changes, W + scale * B A, by their name in transformers."""
    merged, tensors = {}, backbone.read_tensors()
    for (layer, module), update in lora.updates.items():
        name = f"{BERT_LAYOUT.path(layer, module)}.weight"
        merged[name] = tensors[name] + update.scale * update.b @ update.a
    return merged


class Reference:
    """The right answer, by the plainest way: transformers, fp32, each text alone on merged weights."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._model = bare_model(setup.backbone, torch.float32)
        self._plain = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        self._known: dict[tuple[int | None, ...], Tensor] = {}

    def states(self, batch: Batch, gives: Gives) -> Tensor:
        """Return (tokens, width) for `batch`, the texts in order; always the same batch."""
        slots = {"own": batch.slots, "one": (0,) * len(batch.slots)}.get(gives, (None,) * len(batch.slots))
        if slots not in self._known:
            self._known[slots] = self._compute(batch, slots)
        return self._known[slots]

    @torch.inference_mode()
    def _compute(self, batch: Batch, slots: Sequence[int | None]) -> Tensor:
        states: list[Tensor | None] = [None] * len(slots)
        for slot in dict.fromkeys(slots):
            changed = {} if slot is None else merged_weights(self._setup.backbone, self._setup.adapters[slot])
            self._model.load_state_dict({**self._plain, **changed})
            for i in (i for i, own in enumerate(slots) if own == slot):
                ids = torch.from_numpy(batch.encoded[i].windows[0])[None].to(self._setup.device)
                states[i] = self._model(input_ids=ids).last_hidden_state[0]
        return torch.cat([own for own in states if own is not None])


class Ours(Variant):
    """The packed trunk with each text's own adapter; residents: how many are in memory, all by default."""

    def __init__(self, precision: Precision = "fp32", residents: int | None = None) -> None:
        super().__init__(precision)
        self._residents = residents

    def prepare(self, setup: Setup) -> None:
        """Build the trunk and put the adapters on its device."""
        self._setup = setup
        self._trunk = trunk_of(setup.backbone, DTYPES[self.precision])
        self._bank = Bank(self._trunk.device, self._trunk.adapter_dtype)
        for slot, lora in enumerate(setup.adapters[: self._residents]):
            self._bank.install(slot, lora, lambda lora=lora: lora)  # type: ignore[misc]

    @torch.inference_mode()
    def run(self, batch: Batch) -> list[tuple[list[int], Tensor, Packed]]:
        """Pack by the budget, longest texts first, and run the trunk over each packed batch, as `predict` does."""
        tokens = batch.lengths
        order = list(range(len(tokens)))
        if sum(tokens) > self._setup.batch_tokens:
            order.sort(key=lambda i: -tokens[i])
        adapters = self._adapters(batch)
        budgeted = by_budget(order, tokens, self._setup.batch_tokens)
        part = partial(self._part, batch, adapters)
        return list(chain.from_iterable(run_parallel(part, self._lanes(batch, own)) for own in budgeted))

    def _lanes(self, batch: Batch, chosen: list[int]) -> list[list[int]]:
        tokens, slots = ([values[i] for i in chosen] for values in (batch.lengths, batch.slots))
        return [[chosen[i] for i in own] for own in split_for_threads(tokens, slots, self._trunk.device)]

    def _adapters(self, batch: Batch) -> Mapping[Any, Lora]:
        return self._bank.get(batch.slots)

    def _part(
        self, batch: Batch, adapters: Mapping[Any, Lora], chosen: list[int]
    ) -> tuple[list[int], Tensor, Packed]:
        packed = pack(
            [batch.encoded[i] for i in chosen],
            [self._slot(batch.slots[i]) for i in chosen],
            device=self._trunk.device,
        )
        return chosen, self._trunk.forward(packed, adapters), packed

    def _slot(self, slot: int) -> int:
        return slot

    def states(self, output: Any, batch: Batch) -> Tensor:
        """Put the texts back in order."""
        rows: dict[int, Tensor] = {}
        for chosen, hidden, packed in output:
            lengths = [b - a for a, b in zip(packed.offsets, packed.offsets[1:], strict=False)]
            rows |= dict(zip(chosen, hidden.float().split(lengths), strict=True))
        return torch.cat([rows[i] for i in range(len(batch.encoded))])


class OursBare(Ours):
    """The packed trunk without any adapter."""

    gives = "none"

    def _adapters(self, batch: Batch) -> Mapping[Any, Lora]:
        return {}

    def _slot(self, slot: int) -> int:
        return 0


class Floor(Variant):
    """The matrix products of the encoder's linears on as many rows as there are tokens, and nothing else."""

    gives = "nothing"

    def prepare(self, setup: Setup) -> None:
        """Draw weights of the backbone's shapes, query, key and value fused."""
        to: dict[str, Any] = {"device": setup.device, "dtype": DTYPES[self.precision]}
        shapes = setup.backbone.linear_shapes
        width = setup.backbone.hidden_size
        self._layers = []
        for i in range(setup.backbone.layers):
            own = [(3 * width, width)]
            own += [shapes[i, module] for module in ("attention_output", "intermediate", "output")]
            self._layers.append([(torch.randn(s, **to), torch.randn(s[0], **to)) for s in own])
        self._inputs = {size: torch.randn(1, size, **to) for size in (width, shapes[0, "output"][1])}

    @torch.inference_mode()
    def run(self, batch: Batch) -> Tensor:
        """Multiply; every product reads rows of its own size, none waits for another's result."""
        inputs = {size: row.expand(batch.tokens, size).contiguous() for size, row in self._inputs.items()}
        for layer in self._layers:
            for weight, bias in layer:
                out = F.linear(inputs[weight.shape[1]], weight, bias)
        return out

    def states(self, output: Any, batch: Batch) -> Tensor:
        """There are none."""
        raise NotImplementedError("the products alone have no hidden states")
