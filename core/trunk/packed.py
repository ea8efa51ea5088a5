"""`PackedTrunk`: a forward pass over packed tokens, without padding, for encoders with BERT's layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from onetrunk.adapters.methods.lora import Frozen, Lora
from onetrunk.core.backbones.families import Sizes
from onetrunk.core.backbones.kernels import has_grouped_products, has_packed_attention
from onetrunk.core.trunk.attention import Sequences, attend
from onetrunk.core.trunk.base import Trunk, run_parts
from onetrunk.core.trunk.cuda_graphs import Graphs
from onetrunk.core.trunk.dropout import Masks
from onetrunk.core.trunk.int8 import Int8Linear
from onetrunk.core.trunk.lora_application import SharedProduct, SharedStates, Updates, updates_of
from onetrunk.core.trunk.packing import Packed, Part, joined
from onetrunk.core.trunk.preemption import preemption_point
from onetrunk.core.trunk.weights import Embeddings, Layer, Norm, named_tensors, with_noise

_GELU_TANH = partial(F.gelu, approximate="tanh")
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": _GELU_TANH,
    "gelu_pytorch_tanh": _GELU_TANH,
    "relu": F.relu,
}


class PackedTrunk(Trunk):
    """The trunk of a family whose layers are BERT's; see `base.Trunk`.

    A packed row is one token; packed order is the order of `Packed.parts`.
    """

    _graphs: Graphs | None = None

    def __init__(self, embeddings: Embeddings, layers: Sequence[Layer], sizes: Sizes) -> None:
        self.embeddings = embeddings
        self.layers = tuple(layers)
        self.device, self.dtype = embeddings.words.device, embeddings.words.dtype
        # The small products of adapters are fastest in float32 on a CPU.
        self.adapter_dtype = torch.float32 if self.device.type == "cpu" else self.dtype
        rounded = any(isinstance(layer.qkv, Int8Linear) for layer in layers)
        self.precision = torch.int8 if rounded else self.dtype
        self.depth, self.width = len(layers), sizes.width
        self._sizes = sizes
        self._activation = _ACTIVATIONS[sizes.activation]

    def with_graphs(self) -> PackedTrunk:
        """Return a trunk that runs small batches as CUDA graphs, or this trunk without the kernels for them.

        All threads that use such a trunk must use one CUDA stream.
        """
        kind = self.device, self.dtype
        size = self._sizes.width // self._sizes.heads
        if not (has_packed_attention(*kind, size) and has_grouped_products(*kind)):
            return self
        trunk = PackedTrunk(self.embeddings, self.layers, self._sizes)
        trunk.error, trunk.noise = self.error, self.noise
        # The graphs refer to `self`: it stays in use, so that `trunk_of` continues to share its weights.
        trunk._graphs = Graphs(self._run_whole, *kind)
        return trunk

    def with_noise(self, noise: float, seed: int) -> PackedTrunk:
        """Return a trunk with relative noise on the weights of its norms. It shares all other weights."""
        generator = torch.Generator().manual_seed(seed)
        embeddings = with_noise(self.embeddings, noise, generator)
        layers = [with_noise(layer, noise, generator) for layer in self.layers]
        return PackedTrunk(embeddings, layers, self._sizes)

    def first_changed(self, lora: Lora) -> int:
        """Return the first layer that `lora` changes; `depth` if it changes none."""
        return self.depth if lora.first_layer is None else lora.first_layer

    def tensors(self) -> dict[str, Tensor]:
        """Return all weights by name. They are not copies: do not write to them."""
        records: dict[str, Embeddings | Layer] = {"embeddings": self.embeddings}
        records |= {f"layer.{i}": layer for i, layer in enumerate(self.layers)}
        return {
            f"{name}.{path}": tensor
            for name, record in records.items()
            for path, tensor in named_tensors(record).items()
        }

    def forward(self, packed: Packed, adapters: Mapping[int, Lora]) -> Tensor:
        """Run the encoder over a batch; see `base.Trunk.forward`. Returns (rows, width)."""
        if self._graphs is not None and not torch.is_grad_enabled() and len(packed.parts) == 1:
            hidden = self._graphs.run(packed.parts[0], adapters)
            if hidden is not None:
                return joined(hidden, packed)
        return super().forward(packed, adapters)

    def embed(self, packed: Packed) -> Tensor:
        """Return the input of the first layer, (tokens, width), in packed order."""
        ids = torch.cat([part.ids for part in packed.parts])
        return self._embed(ids, torch.cat([part.positions for part in packed.parts]))

    def run(
        self,
        hidden: Tensor,
        packed: Packed,
        adapters: Mapping[int, Lora],
        layers: range | None = None,
        lora_masks: Masks | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        """Run some layers over hidden states; see `base.Trunk.run`. Returns (tokens, width)."""
        chosen, shared = range(self.depth) if layers is None else layers, None
        if source is not None:
            if len(hidden) < len(source) and len(packed.parts) == 1:
                shared = self._filled(hidden), self._filled(source)
            hidden = hidden.index_select(0, source)

        def run_part(own: Tensor, part: Part, masks: Masks | None) -> Tensor:
            updates = updates_of(part.segments, adapters, own, masks)
            states = self._run_layers(self._filled(own), part.sequences, updates, chosen, shared)
            return states[: part.tokens]

        return run_parts(run_part, hidden, packed.parts, lora_masks)

    def recorded(self, hidden: Tensor, packed: Packed) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the first layer over a batch of one part, without adapters; hidden: (tokens, width).

        Returns the output, (tokens, width), and the input (tokens, d_in) of each product, by its first module.
        """
        inputs: dict[str, Tensor] = {}

        def record(x: Tensor, frozen: Frozen, _layer: int, modules: tuple[str, ...], _width: int) -> Tensor:
            inputs[modules[0]] = x
            return frozen(x)

        return self._run_layer(0, hidden, packed.parts[0].sequences, record), inputs

    def _embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Return the input of the first layer, (tokens, width); ids, positions: (tokens,)."""
        own = self.embeddings
        summed = F.embedding(ids, own.words) + F.embedding(positions, own.positions)
        normed = self._norm(summed, own.norm)
        return normed if own.projection is None else own.projection(normed)

    def _run_whole(self, ids: Tensor, positions: Tensor, sequences: Sequences, updates: Updates) -> Tensor:
        """Return the hidden states (tokens, width) of one part. CUDA graphs record this function."""
        return self._run_layers(self._embed(ids, positions), sequences, updates, range(self.depth))

    def _run_layers(
        self,
        hidden: Tensor,
        sequences: Sequences,
        updates: Updates,
        layers: range,
        shared: SharedStates | None = None,
    ) -> Tensor:
        """Run `layers` over hidden states; see `_run_layer`, whose `shared` is used by the first layer only."""
        for index in layers:
            hidden = self._run_layer(index, hidden, sequences, updates, shared)
            shared = None
        return hidden

    def _run_layer(
        self,
        index: int,
        hidden: Tensor,
        sequences: Sequences,
        updates: Updates,
        shared: SharedStates | None = None,
    ) -> Tensor:
        """Run one layer over hidden states (rows, width): the tokens of `sequences`, then rows that fill up.

        shared: the input of the first product, if some rows are equal; None to use `hidden`.
        """
        layer, width = self.layers[index], hidden.shape[1]

        def product(x: Tensor, linear: Frozen, *modules: str) -> Tensor:
            preemption_point()
            return updates(x, linear, index, modules, width)

        qkv = layer.qkv if shared is None else SharedProduct(layer.qkv, *shared)
        attended = attend(product(hidden, qkv, "query", "key", "value"), sequences, self._sizes.heads)
        out = product(self._filled(attended), layer.attention_output, "attention_output")
        hidden = self._norm(hidden + out, layer.attention_norm)
        up = self._activation(product(hidden, layer.intermediate, "intermediate"))
        down = product(up, layer.output, "output")
        return self._norm(hidden + down, layer.output_norm)

    def _filled(self, rows: Tensor) -> Tensor:
        """Append rows of zeros to `rows`, (tokens, ...), in bf16 on a CPU without gradients; see `rounded_up`.

        oneDNN, which computes these products, keeps half a MiB for each shape of a product until the process ends.
        """
        if self.device.type != "cpu" or self.dtype != torch.bfloat16 or torch.is_grad_enabled():
            return rows
        missing = rounded_up(len(rows)) - len(rows)
        return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing)) if missing else rows

    def _norm(self, x: Tensor, own: Norm) -> Tensor:
        return F.layer_norm(x, own.weight.shape, own.weight, own.bias, self._sizes.epsilon)


def rounded_up(rows: int) -> int:
    """Return `rows`, rounded up to one of few numbers: 32 up to 256, then 16 from each power of 2 to the next."""
    octave = 1 << max(0, (rows - 1).bit_length() - 1)
    step = max(4, min(16, octave // 8), octave // 16)
    return -(-rows // step) * step
