"""The trunk: the backbone's one running form, over packed tokens, with adapters as data.

One forward serves training, evaluation and prediction. The weights are copied once into the layout that computes
fastest (query, key and value fused) and in the precision that runs; nothing writes to them again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from onetrunk.adapters.methods.lora import Frozen, Lora
from onetrunk.core.backbones.backbone import Backbone, fingerprint
from onetrunk.core.backbones.families import Sizes, sizes_of
from onetrunk.core.trunk.attention import Sequences, attend, has_varlen
from onetrunk.core.trunk.calibration import InputRecorder, calibration_batch, relative_error
from onetrunk.core.trunk.cuda_graphs import Graphs
from onetrunk.core.trunk.dropout import Masks
from onetrunk.core.trunk.int8 import Int8Linear
from onetrunk.core.trunk.lora_application import SharedStates, Updates, has_grouped_products, updates_of
from onetrunk.core.trunk.packing import Packed, Part, joined
from onetrunk.core.trunk.weights import Embeddings, Layer, Linear, Norm, embeddings_of, layer_of

_GELU_TANH = partial(F.gelu, approximate="tanh")
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": _GELU_TANH,
    "gelu_pytorch_tanh": _GELU_TANH,
    "relu": F.relu,
}
_INPUTS = ("ids", "positions")


class Trunk:
    """A backbone ready to run. Immutable and safe to share between threads."""

    error: float = 0.0
    """How far its hidden states are from those in float32, as a share of their norm, on fixed texts."""
    _noise: float = 0.0
    """The error of the weights of its layer norms that makes the hidden states err as much."""
    _graphs: Graphs | None = None

    def __init__(self, embeddings: Embeddings, layers: Sequence[Layer], sizes: Sizes) -> None:
        self.embeddings = embeddings
        self.layers = tuple(layers)
        self._sizes = sizes
        self._activation = _ACTIVATIONS[sizes.activation]

    @classmethod
    def of(cls, backbone: Backbone, dtype: torch.dtype | None = None) -> Trunk:
        """Return the trunk of `backbone` on its device, in `dtype` (the backbone's by default).

        It is the one that is in use, where there is one: all that computes with a backbone in one dtype (service,
        training, pulls, probes) shares one copy of the weights.
        dtype: float32, bfloat16, or int8: the frozen products in int8 and all else in float32, for serving.
        Its `error` is measured, unless it is in float32. Of a family that is not packed it is a `PaddedTrunk`.
        """
        wanted = dtype or backbone.dtype
        with torch.inference_mode(False), torch.no_grad():  # training may share it
            trunk: Trunk = backbone.trunks.get(wanted, lambda: cls.build(backbone, wanted))
        return trunk

    @classmethod
    def build(cls, backbone: Backbone, dtype: torch.dtype) -> Trunk:
        """Build another trunk, with a copy of the weights of its own; `of` shares one. Raises BackboneError."""
        if not backbone.family.packed:
            from onetrunk.core.trunk.padded import (
                PaddedTrunk,  # which is a Trunk, so that it imports this module
            )

            return PaddedTrunk.build(backbone, dtype)
        sizes = sizes_of(backbone.family, backbone.config)
        # A copy in any case: what is read is mapped from files, which somebody may write to or delete.
        to = {"device": backbone.device, "dtype": torch.float32, "copy": True}
        tensors = backbone.read_tensors()
        embeddings = embeddings_of(tensors, to)
        if dtype == torch.float32:
            layers = [layer_of(tensors, backbone.family, i, to, Linear.of) for i in range(backbone.layers)]
            return cls(embeddings, layers, sizes)
        texts, layers = calibration_batch(backbone), []
        states = cls(embeddings, (), sizes).embed(texts)
        for index in range(backbone.layers):  # so that no more than one is in memory in float32
            exact = layer_of(tensors, backbone.family, index, to, Linear)
            states, inputs = cls(embeddings, (exact,), sizes)._recorded(states, texts)
            if dtype == torch.int8:
                layers.append(exact.in_int8(inputs))
            else:
                layers.append(layer_of(tensors, backbone.family, index, {**to, "dtype": dtype}, Linear.of))
        if dtype != torch.int8:
            embeddings = embeddings_of(tensors, {**to, "dtype": dtype})
        trunk = cls(embeddings, layers, sizes)
        trunk._measure(texts, states)
        return trunk

    def _recorded(self, hidden: Tensor, texts: Packed) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the first layer over `texts` (one part); return what leaves it, and the inputs of its products."""
        (part,), recorder = texts.parts, InputRecorder()
        return self._run_layer(0, hidden, part.sequences, recorder), recorder.inputs

    def _measure(self, texts: Packed, exact: Tensor) -> None:
        """Measure the trunk's error; exact: (tokens, width), what a float32 trunk makes of `texts`."""
        states = self._states(texts)
        self.error = relative_error(states, exact)
        noise = self.error / 4  # near enough for what follows to be in proportion
        self._noise = noise * self.error / relative_error(self._with_noise(noise, 0)._states(texts), states)

    def perturbed(self, seed: int) -> Trunk:
        """Return a copy whose hidden states differ from this trunk's about as much as these do from float32."""
        return self._with_noise(self._noise, seed)

    def _with_noise(self, noise: float, seed: int) -> Trunk:
        generator = torch.Generator().manual_seed(seed)
        embeddings = self.embeddings.with_noise(noise, generator)
        return Trunk(embeddings, [own.with_noise(noise, generator) for own in self.layers], self._sizes)

    def _states(self, texts: Packed) -> Tensor:
        """Return the hidden states (tokens, width) of `texts` in packed order, without adapters."""
        return self.run(self.embed(texts), texts, {})

    def with_graphs(self) -> Trunk:
        """Return the trunk with CUDA graphs for small batches; the same one where it cannot have them.

        They are for a GPU with kernels for packed sequences and grouped products, and for threads of one stream.
        """
        size = self._sizes.width // self._sizes.heads
        able = has_varlen(self.device, self.dtype, size) and has_grouped_products(self.device, self.dtype)
        if not able:
            return self
        trunk = Trunk(self.embeddings, self.layers, self._sizes)
        # Of this trunk, which so stays in use: whoever asks for the backbone's gets it, with the same weights.
        trunk.error, trunk._noise = self.error, self._noise
        trunk._graphs = Graphs(self._run_whole, self.device, self.dtype)
        return trunk

    @property
    def device(self) -> torch.device:
        """Where the trunk's weights are."""
        return self.embeddings.words.device

    @property
    def depth(self) -> int:
        """Number of layers that can be run apart."""
        return len(self.layers)

    @property
    def width(self) -> int:
        """Width of the hidden states."""
        return self._sizes.width

    def first_changed(self, lora: Lora) -> int:
        """Return the first layer that `lora` changes, `depth` where it changes none."""
        return self.depth if lora.first_layer is None else lora.first_layer

    @property
    def dtype(self) -> torch.dtype:
        """What hidden states are in, and adapters that train."""
        return self.embeddings.words.dtype

    @property
    def adapter_dtype(self) -> torch.dtype:
        """What adapters that serve are in: on a CPU float32, whose small products are the fastest."""
        return torch.float32 if self.device.type == "cpu" else self.dtype

    @property
    def precision(self) -> torch.dtype:
        """What the frozen products are in: int8, or `dtype`."""
        return torch.int8 if isinstance(self.layers[0].qkv, Int8Linear) else self.dtype

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the trunk by name; they are the trunk's own: do not write to them."""
        records: dict[str, Embeddings | Layer] = {"embeddings": self.embeddings}
        records |= {f"layer.{i}": own for i, own in enumerate(self.layers)}
        return {
            f"{name}.{part}": tensor
            for name, own in records.items()
            for part, tensor in own.tensors().items()
        }

    def checksum(self) -> str:
        """Return the sha256 over all tensors; the same after anything that uses the trunk."""
        return fingerprint(self.tensors())

    def forward(self, packed: Packed, adapters: Mapping[int, Lora]) -> Tensor:
        """Run the encoder over `packed`, each segment with the adapter of its slot, none where the slot has none.

        adapters: on the trunk's device, in `adapter_dtype`, or in `dtype` where gradients are computed.
        Returns the hidden states (rows, width) of the texts, in the order they were given to `pack`.
        """
        hidden = None
        if self._graphs is not None and not torch.is_grad_enabled() and len(packed.parts) == 1:
            hidden = self._graphs.run(packed.parts[0], adapters)
        if hidden is None:
            hidden = self.run(self.embed(packed), packed, adapters)
        return joined(hidden, packed)

    def embed(self, packed: Packed) -> Tensor:
        """Return what enters the first layer, (tokens, width) in packed order."""
        ids, positions = (torch.cat([getattr(part, name) for part in packed.parts]) for name in _INPUTS)
        return self._embed(ids, positions)

    def _embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        own = self.embeddings
        summed = F.embedding(ids, own.words) + F.embedding(positions, own.positions)
        normed = self._norm(summed, own.norm)
        return own.to_width(normed)

    def run(
        self,
        hidden: Tensor,
        packed: Packed,
        adapters: Mapping[int, Lora],
        layers: range | None = None,
        lora_masks: Masks | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        """Run `layers` (all by default) over hidden states (tokens, width) in packed order; return the same shape.

        lora_masks: dropout on the input of the updates.
        source: (tokens,) int64, the row of `hidden` that each packed row is, where those are in another order, or
        fewer; then the first product is computed once for each of them.
        Of a batch of several parts, the backward pass computes each again: the memory is that of the largest.
        """
        parts, count = packed.parts, len(packed.parts)
        rest = (adapters, range(self.depth) if layers is None else layers)
        shared = None
        if source is not None:
            if len(hidden) < len(source):
                shared = SharedStates(self._filled(hidden), self._filled(source))
            hidden = hidden.index_select(0, source)
        if count == 1:
            return self._run_part(hidden, parts[0], *rest, lora_masks, shared)
        masks = [None] * count if lora_masks is None else lora_masks.split([part.segments for part in parts])
        states = []
        for own, part, mask in zip(hidden.split([part.tokens for part in parts]), parts, masks, strict=True):
            # The states go to `checkpoint` themselves: by them it finds the GPU whose random state it must keep.
            args = (own, part, *rest, mask)
            if torch.is_grad_enabled():
                states.append(checkpoint(self._run_part, *args, use_reentrant=False))
            else:
                states.append(self._run_part(*args))
        return torch.cat(states)

    def _run_part(
        self,
        hidden: Tensor,
        part: Part,
        adapters: Mapping[int, Lora],
        layers: range,
        lora_masks: Masks | None,
        shared: SharedStates | None = None,
    ) -> Tensor:
        """Return what leaves the last of `layers`; shared: what `hidden` are, where many are the same."""
        updates = updates_of(part.segments, adapters, hidden, lora_masks)
        hidden = self._filled(hidden)
        for index in layers:
            hidden = self._run_layer(index, hidden, part.sequences, updates, shared)
            shared = None
        return hidden[: part.tokens]

    def _run_whole(self, ids: Tensor, positions: Tensor, sequences: Sequences, updates: Updates) -> Tensor:
        """Return the hidden states (tokens, width) of one part; what a CUDA graph records."""
        hidden = self._embed(ids, positions)
        for index in range(self.depth):
            hidden = self._run_layer(index, hidden, sequences, updates)
        return hidden

    def _run_layer(
        self,
        index: int,
        hidden: Tensor,
        sequences: Sequences,
        updates: Updates,
        shared: SharedStates | None = None,
    ) -> Tensor:
        layer, width = self.layers[index], hidden.shape[1]

        def product(x: Tensor, linear: Frozen, *modules: str) -> Tensor:
            return updates.product(x, linear, index, modules, width)

        qkv = layer.qkv if shared is None else shared.product(layer.qkv)
        attended = attend(product(hidden, qkv, "query", "key", "value"), sequences, self._sizes.heads)
        context = self._filled(attended)
        out = product(context, layer.attention_output, "attention_output")
        hidden = self._norm(hidden + out, layer.attention_norm)
        up = self._activation(product(hidden, layer.intermediate, "intermediate"))
        down = product(up, layer.output, "output")
        return self._norm(hidden + down, layer.output_norm)

    def _filled(self, rows: Tensor) -> Tensor:
        """Return `rows` (tokens, ...), with rows of zeros after them where the number of rows is to be rounded up.

        A CPU's kernels for bf16 (oneDNN) keep half a MiB for each shape of a product, for good. Training is left
        alone.
        """
        if self.device.type != "cpu" or self.dtype != torch.bfloat16 or torch.is_grad_enabled():
            return rows
        missing = rounded_up(len(rows)) - len(rows)
        return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing)) if missing else rows

    def _norm(self, x: Tensor, own: Norm) -> Tensor:
        return F.layer_norm(x, own.weight.shape, own.weight, own.bias, self._sizes.epsilon)


def rounded_up(rows: int) -> int:
    """Round a number of rows up to one of few: 32 up to 256, then 16 from one power of two to the next."""
    octave = 1 << max(0, (rows - 1).bit_length() - 1)
    step = max(4, min(16, octave // 8), octave // 16)
    return -(-rows // step) * step
