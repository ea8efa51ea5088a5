"""Examples → logits: the part of prediction, evaluation and the probe that is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.backbones.tokenization import Encoded, TextEncoder
from onetrunk.core.inference.adapter import Adapter, head_logits
from onetrunk.core.inference.cpu_parallel import run_parallel, split_for_threads
from onetrunk.core.tasks import Example, TaskSpec
from onetrunk.core.tasks.guarded_calls import calling
from onetrunk.core.trunk.batching import inference_batches
from onetrunk.core.trunk.packed import Trunk
from onetrunk.core.trunk.packing import pack
from onetrunk.core.trunk.partial_forward import LayerEntry, lower_states, run_entries

BATCH_TOKENS = 2048
"""Default token budget of a batch: large enough for full speed on a CPU, small enough for its caches."""


@dataclass(frozen=True, slots=True)
class LogitsRequest:
    """One text for one adapter; `slot` is the adapter's index."""

    encoded: Encoded
    slot: int


def encode_examples(encoder: TextEncoder, spec: TaskSpec, examples: Sequence[Example]) -> list[Encoded]:
    """Tokenise `examples` with the word spans of their task. Raises TaskSpecError for what `split` raises."""
    spans = []
    for example in examples:
        with calling(spec, "split", example.where):
            spans.append(spec.spans(example))
    return encoder.encode([example.text for example in examples], spans)


def ignore(jobs: int) -> None:
    """Hear of progress and do nothing."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A job in a batch.

    index: its place in the order asked; text: equal for equal texts; first: the first layer its adapter changes.
    """

    index: int
    encoded: Encoded
    slot: int
    text: int
    first: int


@torch.inference_mode()
def compute_logits(
    trunk: Trunk,
    first_position: int,
    adapters: Sequence[Adapter],
    jobs: Sequence[LogitsRequest],
    batch_tokens: int = BATCH_TOKENS,
    advance: Callable[[int], None] = ignore,
) -> list[np.ndarray]:
    """Return the logits of each job, (units, labels) float32, in the order of `jobs`.

    Jobs of all adapters share batches; those of one text share the layers below the first that their adapter
    changes. `advance` hears how many jobs each batch finished.
    """
    results: list[np.ndarray | None] = [None] * len(jobs)
    texts = _numbered([job.encoded for job in jobs])
    firsts = [trunk.first_changed(adapter.lora) for adapter in adapters]
    for batch in inference_batches([job.encoded.tokens for job in jobs], batch_tokens, texts):
        rows = [_Row(i, jobs[i].encoded, jobs[i].slot, texts[i], firsts[jobs[i].slot]) for i in batch]
        answer = partial(_lane_logits, trunk, first_position, adapters, batch_tokens)
        for index, logits in chain.from_iterable(run_parallel(answer, _lanes(rows, trunk.device))):
            results[index] = logits
        advance(len(batch))
    return results  # type: ignore[return-value]


def _numbered(texts: Sequence[Encoded]) -> list[int]:
    """Return a number for each text, the same for the same tokens."""
    known: dict[tuple[bytes, ...], int] = {}
    return [known.setdefault(tuple(ids.tobytes() for ids in text.windows), len(known)) for text in texts]


def _lanes(rows: list[_Row], device: torch.device) -> list[list[_Row]]:
    """Cut a batch into lanes: by adapters, or by texts where adapters share the lower layers of one."""
    shared = _has_shared(rows)
    keys = [row.text if shared else row.slot for row in rows]
    return [
        [rows[i] for i in own]
        for own in split_for_threads([row.encoded.tokens for row in rows], keys, device)
    ]


def _has_shared(rows: Sequence[_Row]) -> bool:
    """Tell whether several adapters share the lower layers of some text."""
    return len({row.text for row in rows if row.first}) < sum(row.first > 0 for row in rows)


def _lane_logits(
    trunk: Trunk, first_position: int, adapters: Sequence[Adapter], most: int, rows: list[_Row]
) -> list[tuple[int, np.ndarray]]:
    """Return the index of each row of a lane with its logits; at most `most` tokens run at once."""
    loras = {row.slot: adapters[row.slot].lora for row in rows}
    found: list[tuple[int, np.ndarray]] = []
    if _has_shared(rows):
        rows.sort(key=lambda row: (row.first, row.slot))
        entries = _entries(trunk, first_position, rows, most)
        hidden, packed = run_entries(trunk, first_position, entries, loras, most=most)
    else:
        rows.sort(key=lambda row: row.slot)
        packed = pack([row.encoded for row in rows], [row.slot for row in rows], first_position, most)
        packed = packed.to(trunk.device)
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


def _entries(trunk: Trunk, first_position: int, rows: Sequence[_Row], most: int) -> list[LayerEntry]:
    """Return the entries of `rows`, which are in order of `first`; each text climbs once, as far as needed."""
    entries: list[LayerEntry] = []
    states: dict[int, Tensor] = {}
    below = 0
    for first, group in groupby(rows, key=lambda row: row.first):
        own = list(group)
        needed = {row.text: row.encoded for row in rows if row.first >= first}
        entering = torch.cat([states[text] for text in needed]) if states else None
        texts = list(needed.values())
        hidden = lower_states(trunk, first_position, texts, entering, range(below, first), most)
        states = dict(zip(needed, hidden.split([text.tokens for text in texts]), strict=True))
        entries.append(_entry(own, states))
        below = first
    return entries


def _entry(rows: Sequence[_Row], states: Mapping[int, Tensor]) -> LayerEntry:
    """Return the entry of `rows`, with the states of each text, by its number, once."""
    starts: dict[int, int] = {}
    end = 0
    for row in rows:
        if row.text not in starts:
            starts[row.text] = end
            end += row.encoded.tokens
    source = [np.arange(start := starts[row.text], start + row.encoded.tokens) for row in rows]
    return LayerEntry(
        first=rows[0].first,
        texts=[row.encoded for row in rows],
        slots=[row.slot for row in rows],
        hidden=torch.cat([states[text] for text in starts]),
        source=torch.from_numpy(np.concatenate(source)),
    )
