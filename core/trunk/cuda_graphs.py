"""CUDA graphs for small batches, for which launching kernels takes longer than running them.

A graph replays the kernels of one forward pass on tensors of fixed sizes. Batches differ in their numbers of
tokens, of sequences and of runs (neighbouring rows of one adapter). Each batch is filled up to the next sizes for
which graphs are recorded: the rows after the last text are a sequence of their own, with an adapter of zeros.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from onetrunk.adapters.methods.flat_layout import FlatLayout
from onetrunk.adapters.methods.lora import Lora
from onetrunk.core.trunk.attention import Sequences
from onetrunk.core.trunk.lora_application import Patches, Stack, Updates, changing, shared_layout
from onetrunk.core.trunk.packing import Part

TOKENS = (32, 64, 128, 256, 512, 1024, 2048)
"""Numbers of tokens for which graphs are recorded. A larger batch keeps the GPU busy without a graph."""
MOST_RUNS = 64
"""Largest number of sequences, and of runs, of a graph."""
KEPT = 32
"""Largest number of graphs. Beyond it the least recently used is dropped."""
_WARM_UPS = 3

_log = logging.getLogger(__name__)
_RECORDING = threading.Lock()
"""Held while a graph is recorded: torch records one at a time in a process."""
Compute = Callable[[Tensor, Tensor, Sequences, Updates], Tensor]
"""A forward pass: ids and positions (tokens,), sequences, updates → hidden states (tokens, width)."""
Record = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Records a function; returns one that replays it on the same tensors."""


@dataclass(frozen=True, slots=True)
class GraphShape:
    """The sizes of a graph's inputs. layout: memory layout of its adapters, None without adapters."""

    tokens: int
    sequences: int
    runs: int
    layout: FlatLayout | None


class StaticInputs(Sequences):
    """The input tensors of a graph, which stay in memory, and the sequences in them.

    ids, positions: (tokens,) int64.
    updates: the LoRA updates of the runs.
    """

    def __init__(self, shape: GraphShape, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__((shape.tokens,), device)
        self._shape = shape
        self.ids = torch.zeros(shape.tokens, dtype=torch.int64, device=device)
        self.positions = torch.zeros_like(self.ids)
        # Starts of the sequences of the batch, of the rows after it, and of empty sequences.
        self.starts = torch.zeros(shape.sequences + 2, dtype=torch.int32, device=device)
        self.longest = shape.tokens
        self._stops = torch.zeros(shape.runs + 1, dtype=torch.int32, device=device)
        self.updates: Updates = Patches((), {}, None)
        if shape.layout is not None:
            self._flat = torch.zeros(shape.runs + 1, shape.layout.size, dtype=dtype, device=device)
            self.updates = Stack(self._flat, self._stops, shape.layout)

    def fill(self, part: Part, loras: Sequence[Lora | None]) -> None:
        """Copy a batch into the tensors; loras: the adapter of each run."""
        tokens = self._shape.tokens
        for static, values in ((self.ids, part.ids), (self.positions, part.positions)):
            static[: part.tokens].copy_(values)
            static[part.tokens :].zero_()
        self.lengths = tuple(n for n in (*part.sequences.lengths, tokens - part.tokens) if n)
        for cached in ("blocks", "equal_blocks"):  # they depend on the lengths
            self.__dict__.pop(cached, None)
        _write(self.starts, [0, *accumulate(part.sequences.lengths)], tokens)
        _write(self._stops, [own.stop for own in part.segments], tokens)
        if self._shape.layout is not None:
            for static, lora in zip(self._flat, (*loras, None), strict=False):
                if lora is None or lora.flat is None:
                    static.zero_()
                else:
                    static.copy_(lora.flat)


_Graph = tuple[StaticInputs, Callable[[], Tensor]]


class Graphs:
    """The CUDA graphs of one forward pass, by shape. Thread-safe for threads that use one CUDA stream.

    The copies of adapters in their input tensors are not counted by `Bank`.
    compute: the forward pass.
    record: records it, by default as a CUDA graph.
    """

    def __init__(
        self, compute: Compute, device: torch.device, dtype: torch.dtype, record: Record | None = None
    ) -> None:
        self._compute, self._to, self._record = compute, (device, dtype), record or _recorder(device)
        self._graphs: OrderedDict[GraphShape, _Graph] = OrderedDict()
        self._lock = threading.Lock()
        self._off = False

    def run(self, part: Part, adapters: Mapping[int, Lora]) -> Tensor | None:
        """Return the hidden states (tokens, width) of a batch; None if it is too large or no graph can be made."""
        loras = changing(part.segments, adapters)
        shape = shape_of(part, loras)
        if shape is None:
            return None
        with self._lock:
            if self._off:
                return None
            with torch.inference_mode():
                output = self._replay(shape, part, loras)
            return None if output is None else output.clone()

    def _replay(self, shape: GraphShape, part: Part, loras: Sequence[Lora | None]) -> Tensor | None:
        """Return the output (tokens, width), which the next replay overwrites. The caller holds the lock."""
        found = self._graphs.pop(shape, None) or self._new(shape, part, loras)
        if found is None:
            return None
        self._graphs[shape] = inputs, replay = found
        if len(self._graphs) > KEPT:
            self._graphs.popitem(last=False)
        inputs.fill(part, loras)
        return replay()[: part.tokens]

    def _new(self, shape: GraphShape, part: Part, loras: Sequence[Lora | None]) -> _Graph | None:
        """Record a graph; if that fails, return None and use no graphs from now on. Raises errors of the batch."""
        try:
            inputs = StaticInputs(shape, *self._to)
        except torch.OutOfMemoryError as error:
            self._switch_off(error)
            return None
        inputs.fill(part, loras)
        try:
            return inputs, self._record(
                lambda: self._compute(inputs.ids, inputs.positions, inputs, inputs.updates)
            )
        except RuntimeError as error:
            self._switch_off(error)
            return None

    def _switch_off(self, error: RuntimeError) -> None:
        self._off = True
        _log.warning("no CUDA graph could be recorded; small batches run without graphs: %s", error)


def shape_of(part: Part, loras: Sequence[Lora | None]) -> GraphShape | None:
    """Return the shape of a batch's graph; None if the batch is too large or its adapters have no shared layout."""
    tokens = next((size for size in TOKENS if size >= part.tokens), None)
    runs, sequences = len(part.segments), len(part.sequences.lengths)
    if tokens is None or max(runs, sequences) > MOST_RUNS:
        return None
    layout = shared_layout(loras)
    if layout is None and any(loras):
        return None
    return GraphShape(tokens, _power_of_two(sequences), _power_of_two(runs), layout)


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _write(static: Tensor, values: Sequence[int], rest: int) -> None:
    """Write `values` into a static tensor, (numbers,), and `rest` after them."""
    whole = [*values, *[rest] * (len(static) - len(values))]
    static.copy_(torch.tensor(whole, dtype=static.dtype))


def _recorder(device: torch.device) -> Record:
    """Return a function that records CUDA graphs of `device`, all in one memory pool."""
    pool: list[Any] = []

    def record(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        before = torch.cuda.current_stream(device)
        with _RECORDING, torch.cuda.device(device):
            aside = torch.cuda.Stream(device)
            aside.wait_stream(before)
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UPS):  # libraries initialise themselves in their first calls
                    compute()
            before.wait_stream(aside)
            pool[:] = pool or [torch.cuda.graph_pool_handle()]
            graph = torch.cuda.CUDAGraph()
            try:
                # In the default capture mode it is an error if other threads allocate memory meanwhile.
                with torch.cuda.graph(graph, pool=pool[0], stream=aside, capture_error_mode="thread_local"):
                    output = compute()
            finally:
                torch.cuda.set_stream(before)  # if recording fails, torch leaves the other stream current

        def replay() -> Tensor:
            graph.replay()
            return output

        return replay

    return record
