"""CUDA graphs for small batches, where launching kernels takes longer than running them.

A graph replays the kernels of one pass on tensors at fixed places. Batches differ in tokens, sequences and runs of
equal adapters, so that each is filled up to the next size of a bucket: the rows behind the last text are a sequence
of their own, with an adapter of zeros.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onetrunk.adapters.methods.flat_layout import FlatLayout, layout_of
from onetrunk.adapters.methods.grouped_products import Stack, is_aligned
from onetrunk.adapters.methods.lora import Lora
from onetrunk.core.trunk.attention import Sequences
from onetrunk.core.trunk.lora_application import Patches, Updates, changing
from onetrunk.core.trunk.packing import Part

TOKENS = (32, 64, 128, 256, 512, 1024, 2048)
"""Sizes of buckets, in tokens; a larger batch keeps the GPU busy without a graph."""
MOST_RUNS = 64
"""Sequences, and runs of one adapter, that a graph has room for at most."""
KEPT = 32
"""Graphs that are kept; the one that was used least recently makes room."""
_WARM_UPS = 3

_log = logging.getLogger(__name__)
_RECORDING = threading.Lock()
"""torch records one graph at a time in a process."""
Compute = Callable[[Tensor, Tensor, Sequences, Updates], Tensor]
"""Ids and positions (tokens,), sequences, updates → hidden states (tokens, width)."""
Record = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""A pass → what repeats it on the same tensors."""


@dataclass(frozen=True, slots=True)
class GraphShape:
    """What a graph has room for. layout: of its adapters, None without any."""

    tokens: int
    sequences: int
    runs: int
    layout: FlatLayout | None


class StaticInputs(Sequences):
    """The inputs of a graph, at fixed places, and the sequences in them."""

    def __init__(self, bucket: GraphShape, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__((bucket.tokens,), device)
        self._bucket = bucket
        self.ids, self.positions = (
            torch.zeros(bucket.tokens, dtype=torch.int64, device=device) for _ in range(2)
        )
        self._starts = torch.zeros(bucket.sequences + 2, dtype=torch.int32, device=device)
        self._stops = torch.zeros(bucket.runs + 1, dtype=torch.int32, device=device)
        self.updates: Updates = Patches((), {}, None)
        if bucket.layout is not None:
            self._flat = torch.zeros(bucket.runs + 1, bucket.layout.size, dtype=dtype, device=device)
            self.updates = Stack(self._flat, self._stops, bucket.layout)

    @property
    def starts(self) -> Tensor:
        """As `Sequences` has it; the sequences behind the last text have no rows, but for the first of them."""
        return self._starts

    @property
    def longest(self) -> int:
        """As many as there is room for: a graph cannot know."""
        return self._bucket.tokens

    def fill(self, part: Part, loras: Sequence[Lora | None]) -> None:
        """Put a batch in; loras: of each of its runs."""
        room = self._bucket.tokens
        for place, values in ((self.ids, part.ids), (self.positions, part.positions)):
            place[: part.tokens].copy_(values)
            place[part.tokens :].zero_()
        self.lengths = tuple(n for n in (*part.sequences.lengths, room - part.tokens) if n)
        for made_of_lengths in ("blocks", "equal_blocks"):  # where there is no kernel for packed sequences
            self.__dict__.pop(made_of_lengths, None)
        starts = [0]
        for length in part.sequences.lengths:
            starts.append(starts[-1] + length)
        _write(self._starts, starts, room)
        _write(self._stops, [own.stop for own in part.segments], room)
        if self._bucket.layout is not None:
            for place, lora in zip(self._flat, (*loras, None), strict=False):
                if lora is None or lora.flat is None:
                    place.zero_()
                else:
                    place.copy_(lora.flat)


class Graphs:
    """Graphs by bucket. Safe to share between threads that use one CUDA stream: one replays at a time.

    compute: the pass; record: what makes a graph of it. Each graph holds room for as many adapters as its bucket,
    which no bank counts.
    """

    def __init__(
        self, compute: Compute, device: torch.device, dtype: torch.dtype, record: Record | None = None
    ) -> None:
        self._compute, self._to, self._record = compute, (device, dtype), record or _recorder(device)
        self._known: OrderedDict[GraphShape, tuple[StaticInputs, Callable[[], Tensor]]] = OrderedDict()
        self._lock = threading.Lock()
        self._off = False

    def run(self, part: Part, adapters: Mapping[int, Lora]) -> Tensor | None:
        """Return the hidden states (tokens, width) of a batch; None for one that no graph is for."""
        loras = changing(part.segments, adapters)
        bucket = shape_of(part, loras)
        if bucket is None:
            return None
        with self._lock:
            if self._off:
                return None
            with torch.inference_mode():
                output = self._replayed(bucket, part, loras)
            return None if output is None else output.clone()  # the caller's own, whatever is replayed next

    def _replayed(self, bucket: GraphShape, part: Part, loras: Sequence[Lora | None]) -> Tensor | None:
        """Return the rows of a batch in the graph's memory; the caller holds the lock."""
        found = self._known.pop(bucket, None) or self._new(bucket, part, loras)
        if found is None:
            return None
        self._known[bucket] = room, replay = found
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        room.fill(part, loras)
        return replay()[: part.tokens]

    def _new(
        self, bucket: GraphShape, part: Part, loras: Sequence[Lora | None]
    ) -> tuple[StaticInputs, Callable[[], Tensor]] | None:
        """Return the filled inputs of a new graph and what replays it; None, from now on, if none can be made.

        What copying the batch into the inputs raises is a fault of the batch or the device, and is raised.
        """
        try:
            room = StaticInputs(bucket, *self._to)
        except torch.OutOfMemoryError as error:
            self._switch_off(error)
            return None
        room.fill(part, loras)
        try:
            return room, self._record(lambda: self._compute(room.ids, room.positions, room, room.updates))
        except RuntimeError as error:
            self._switch_off(error)
            return None

    def _switch_off(self, error: RuntimeError) -> None:
        self._off = True
        _log.warning("no CUDA graph could be recorded, small batches run without: %s", error)


def shape_of(part: Part, loras: Sequence[Lora | None]) -> GraphShape | None:
    """Return the bucket of a batch; None where it is too large, or its adapters are not alike."""
    tokens = next((size for size in TOKENS if size >= part.tokens), None)
    runs, sequences = len(part.segments), len(part.sequences.lengths)
    if tokens is None or max(runs, sequences) > MOST_RUNS:
        return None
    known = [lora for lora in loras if lora is not None]
    if any(lora.flat is None for lora in known):
        return None
    layouts = {id(layout): layout for layout in map(layout_of, known)}
    if len(layouts) > 1 or not all(map(is_aligned, known)):
        return None
    return GraphShape(tokens, _room(sequences), _room(runs), next(iter(layouts.values()), None))


def _room(count: int) -> int:
    """Return the next power of two."""
    return 1 << (count - 1).bit_length()


def _write(place: Tensor, values: Sequence[int], rest: int) -> None:
    """Write `values`, and `rest` behind them."""
    whole = [*values, *[rest] * (len(place) - len(values))]
    place.copy_(torch.tensor(whole, dtype=place.dtype))


def _recorder(device: torch.device) -> Record:
    """Return what records CUDA graphs of `device`, all in one pool of memory."""
    pool: list[Any] = []

    def record(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        before = torch.cuda.current_stream(device)
        with _RECORDING, torch.cuda.device(device):
            aside = torch.cuda.Stream(device)
            aside.wait_stream(before)
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UPS):  # libraries set themselves up in their first calls
                    compute()
            before.wait_stream(aside)
            pool[:] = pool or [torch.cuda.graph_pool_handle()]
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads go on allocating meanwhile, which the default mode would call a fault of theirs.
                with torch.cuda.graph(graph, pool=pool[0], stream=aside, capture_error_mode="thread_local"):
                    output = compute()
            finally:
                torch.cuda.set_stream(before)  # torch leaves the other one current where a recording fails

        def replay() -> Tensor:
            graph.replay()
            return output

        return replay

    return record
