"""Computes the logits of texts, for prediction, evaluation and probes (the check of a loaded adapter)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain, groupby

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.backbones.tokenization import Encoded, TextEncoder, length_fault
from onetrunk.core.errors import DataError
from onetrunk.core.inference.adapter import Adapter, head_logits
from onetrunk.core.inference.cpu_parallel import run_parallel, split_for_threads
from onetrunk.core.tasks import Example, Rows, TaskSpec
from onetrunk.core.tasks.guarded_calls import calling
from onetrunk.core.trunk.base import Trunk
from onetrunk.core.trunk.batching import inference_batches
from onetrunk.core.trunk.packing import joined_windows, pack
from onetrunk.core.trunk.partial_forward import LayerEntry, lower_states, run_entries

BATCH_TOKENS = 2048
"""Default number of tokens of a batch: enough for full speed on a CPU, and few enough for its caches."""


@dataclass(frozen=True, slots=True)
class LogitsRequest:
    """One text for one adapter. slot: index of the adapter."""

    encoded: Encoded
    slot: int


def encode_examples(encoder: TextEncoder, spec: TaskSpec, examples: Sequence[Example]) -> list[Encoded]:
    """Encode the texts of examples. For a task on words, each text is encoded with its words.

    If an example does not have its words, the task's `split` finds them. The task gets the examples of
    `with_encoded_words` together with the logits.
    Raises DataError for a text that is too long, and TaskSpecError if `split` raises an error.
    """
    spans = []
    for example in examples:
        if fault := length_fault(example.text):
            raise DataError(example.where, fault)
        with calling(spec, "split", example.where):
            spans.append(spec.finest_words(example))
    return encoder.encode([example.text for example in examples], spans, join=spec.flexible_words)


def with_encoded_words(
    spec: TaskSpec, examples: Sequence[Example], encoded: Sequence[Encoded]
) -> tuple[Example, ...]:
    """Return the examples with the words that get logits."""
    pairs = zip(examples, encoded, strict=True)
    return tuple(spec.with_words(example, own.spans) for example, own in pairs)


def ignore(count: int) -> None:
    """Do nothing: the default progress callback."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A request in a batch.

    index: of the request.
    slot: index of the adapter.
    text: a number, equal for equal texts.
    first: the first layer that the adapter changes.
    """

    index: int
    encoded: Encoded
    slot: int
    text: int
    first: int


@torch.inference_mode()
def compute_logits(
    trunk: Trunk,
    adapters: Sequence[Adapter],
    requests: Sequence[LogitsRequest],
    batch_tokens: int = BATCH_TOKENS,
    advance: Callable[[int], None] = ignore,
) -> list[np.ndarray]:
    """Return the logits of each request, (units, labels) float32, in the order of `requests`.

    A unit is what the task labels: a word or a whole text. Requests for all adapters share batches. Requests with
    the same text share the layers that their adapters do not change.
    batch_tokens: largest number of tokens of a batch; a longer text is a batch of its own.
    advance: called after each batch with its number of requests.
    Raises TaskSpecError if a head raises an error or returns logits of another shape.
    """
    results: list[np.ndarray | None] = [None] * len(requests)
    known: dict[tuple[bytes, ...], int] = {}  # a number for each text, equal for equal tokens
    texts = [
        known.setdefault(tuple(ids.tobytes() for ids in request.encoded.windows), len(known))
        for request in requests
    ]
    firsts = [trunk.first_changed(adapter.lora) for adapter in adapters]
    for batch in inference_batches([request.encoded.tokens for request in requests], batch_tokens, texts):
        chosen = [(i, requests[i]) for i in batch]
        rows = [_Row(i, own.encoded, own.slot, texts[i], firsts[own.slot]) for i, own in chosen]
        work = partial(_rows_logits, trunk, adapters, batch_tokens)
        for index, logits in chain.from_iterable(run_parallel(work, _split(rows, trunk.device))):
            results[index] = logits
        advance(len(batch))
    return results  # type: ignore[return-value]


@torch.inference_mode()
def window_states(
    trunk: Trunk, adapters: Sequence[Adapter], requests: Sequence[LogitsRequest], batch_tokens: int
) -> list[Tensor]:
    """Return the hidden states (tokens, width) of each request, whose text is one window (`Encoded.window`).

    `window_logits` computes the logits of a text from the states of its windows. This way, a long text can be
    computed in several batches.
    batch_tokens: largest number of tokens that run through the trunk at once; a longer window runs alone.
    """
    packed = pack(
        [own.encoded for own in requests], [own.slot for own in requests], batch_tokens, trunk.device
    )
    hidden = trunk.forward(packed, {slot: adapter.lora for slot, adapter in enumerate(adapters)})
    return list(hidden.split([own.encoded.tokens for own in requests]))


@torch.inference_mode()
def window_logits(adapter: Adapter, encoded: Encoded, states: Sequence[Tensor]) -> np.ndarray:
    """Return the logits (units, labels) of a text; states: (tokens, width) of each of its windows."""
    rows = joined_windows(encoded, states)
    offsets = torch.tensor([0, len(rows)], device=rows.device)
    words = torch.from_numpy(encoded.words).to(rows.device)
    return head_logits(adapter.spec, adapter.head, rows, Rows(offsets, words)).cpu().numpy()


def _split(rows: list[_Row], device: torch.device) -> list[list[_Row]]:
    """Split a batch for parallel threads: by adapter, or by text if several adapters share its lower layers."""
    shared = _has_shared(rows)
    keys = [row.text if shared else row.slot for row in rows]
    parts = split_for_threads([row.encoded.tokens for row in rows], keys, device)
    return [[rows[i] for i in part] for part in parts]


def _has_shared(rows: Sequence[_Row]) -> bool:
    """Whether several adapters share the lower layers of a text."""
    return len({row.text for row in rows if row.first}) < sum(row.first > 0 for row in rows)


def _rows_logits(
    trunk: Trunk, adapters: Sequence[Adapter], most: int, rows: list[_Row]
) -> list[tuple[int, np.ndarray]]:
    """Return the index of each row with its logits (units, labels); at most `most` tokens run at once."""
    loras = {row.slot: adapters[row.slot].lora for row in rows}
    found: list[tuple[int, np.ndarray]] = []
    if _has_shared(rows):
        rows.sort(key=lambda row: (row.first, row.slot))
        hidden, packed = run_entries(trunk, _entries(trunk, rows, most), loras, most=most)
    else:
        rows.sort(key=lambda row: row.slot)
        texts, slots = [row.encoded for row in rows], [row.slot for row in rows]
        packed = pack(texts, slots, most, trunk.device)
        hidden = trunk.forward(packed, loras)
    last = 0
    for slot, group in groupby(rows, key=lambda row: row.slot):
        own = list(group)
        first, last = last, last + len(own)
        adapter = adapters[slot]
        states = hidden[packed.offsets[first] : packed.offsets[last]]
        logits = head_logits(adapter.spec, adapter.head, states, packed.rows(first, last))
        units = [adapter.spec.units_of(len(row.encoded.words), 1) for row in own]
        split = np.split(logits.cpu().numpy(), np.cumsum(units)[:-1])
        found += zip([row.index for row in own], split, strict=True)
    return found


def _entries(trunk: Trunk, rows: Sequence[_Row], most: int) -> list[LayerEntry]:
    """Return the layer entries of `rows`, one for each value of `first`. `rows` must be sorted by `first`.

    The layers below an entry compute each text only once, for all its rows.
    """
    entries: list[LayerEntry] = []
    states: dict[int, Tensor] = {}
    below = 0
    for first, group in groupby(rows, key=lambda row: row.first):
        own = list(group)
        needed = {row.text: row.encoded for row in rows if row.first >= first}
        entering = torch.cat([states[text] for text in needed]) if states else None
        texts = list(needed.values())
        hidden = lower_states(trunk, texts, entering, range(below, first), most)
        states = dict(zip(needed, hidden.split([text.tokens for text in texts]), strict=True))
        entries.append(_entry(own, states))
        below = first
    return entries


def _entry(rows: Sequence[_Row], states: Mapping[int, Tensor]) -> LayerEntry:
    """Return the layer entry of `rows`, which all have the same `first`.

    states: the hidden states (tokens, width) of each text, by its number.
    """
    texts = {row.text: row.encoded for row in rows}
    starts = dict(zip(texts, accumulate((own.tokens for own in texts.values()), initial=0), strict=False))
    source = [np.arange(start := starts[row.text], start + row.encoded.tokens) for row in rows]
    return LayerEntry(
        first=rows[0].first,
        texts=[row.encoded for row in rows],
        slots=[row.slot for row in rows],
        hidden=torch.cat([states[text] for text in texts]),
        source=torch.from_numpy(np.concatenate(source)),
    )
