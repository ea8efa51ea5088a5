"""The contract of a task: `TaskSpec`. The records that it exchanges with the core are in `records`.

The core reads files, tokenizes, runs the encoder, trains, stores and serves. The task defines how a record becomes
an example, the labels, the head, the loss, and how logits are decoded and evaluated. Importing this module does not
import torch, so that listing tasks is fast.

A *unit* is what gets one row of logits: a word for a task of level `token`, a text for a task of level `text`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from onetrunk.adapters.format.bounds import (
    MAX_LABEL_CHARACTERS,
    MAX_LABELS,
    MAX_PROBE,
    MAX_PROBE_CHARACTERS,
)
from onetrunk.core.errors import TaskSpecError
from onetrunk.core.tasks.records import (
    Example,
    HeadContext,
    JSONObject,
    Labels,
    Level,
    Record,
    Span,
    TaskNote,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

DEFAULT_PROBE = (
    "Ada Lovelace wrote to Charles Babbage from London on Tuesday.",
    "not good",
    "¿Dónde está mi pedido nº 42? 東京 🙂",
    "",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """The definition of a task. Its functions must be pure; they are called from any thread.

    name: lower-case identifier that users type.
    summary: one line, for lists of tasks.
    level: the unit that gets one row of logits: a word (`token`) or a text (`text`).
    read: raw record → `Example`. Raises ValueError with a message for the user; the core adds file and line.
    labels: the fixed labels, or a function that collects them from the training examples. Labels are distinct,
        non-empty strings. The function raises ValueError if the examples have no labels.
    targets: (example, labels) → the numbers for the loss. Either all are integers, usually one label index per
        unit, with `IGNORE` for a unit to leave out; or all are finite floats, for a regression. All examples of a
        task return the same type; bool is not allowed. Raises `UnknownLabel` for labels that are not in `labels`:
        in dev and test data, such an example counts as missed. Raises ValueError for an example whose target is
        None if the task cannot train on it. The core calls it for such examples with labels = () before it
        collects the labels.
    make_head: `HeadContext` → a module that maps (hidden states (T, H) float32, `Rows`) → logits (units, any size).
        Its weights are float32, also if the encoder runs in bf16 or int8.
    loss: (logits of a batch (units, any size) float32, concatenated targets of its texts, class weights (labels,)
        float32 or None) → a scalar tensor. The targets are int64, or float32 if `targets` returns floats. Class
        weights are passed only if every unit has one label index as its target.
    decode: (example, logits of this text (units, labels) float32, labels, settings) → the prediction as JSON.
        Settings are what `calibrate` returned, {} without it.
    evaluate: (examples with targets, logits of each, labels, settings) → metrics as JSON. Numbers at the top level
        are printed (None is an undefined metric); nested objects appear only in JSON output. If the examples have
        labels that the adapter lacks, these come last in `labels`, and their logits are minus infinity.
    primary: the metric that selects the best epoch; higher is better, and None counts as 0. Epochs with the value 0
        do not count towards `patience`; if all epochs have the value 0, the last one is the best. On a small dev
        split, the loss selects the best epoch instead.
    calibrate: (dev examples, logits of each, labels) → the settings for `decode` and `evaluate` as JSON. Called
        after each epoch, before `evaluate` on dev; the settings of the best epoch are stored with the adapter. It
        does not get examples with labels that the adapter lacks. If the result has the key `note`, its text is no
        setting: `train` shows it to the user.
    split: text → word spans; required for level `token`.
    splitter: an identifier of `split`, stored with each adapter; "" if `split` never changed.
    older_splits: the functions that `split` was before, by their identifiers. An adapter keeps the one that it was
        trained with.
    flexible_words: whether `targets`, `decode` and `evaluate` work with any words of a text. The core then splits
        given words further where `split` does, and joins words that share their first token, which get the same
        logits. It passes examples with the words that result.
    notes: examples of one data set, as `read` returned them → notes for the user, such as the number of `remarks`.
        `train`, `eval` and `check` print them with the name of the file.
    encoded_notes: the same examples with the words that get logits → notes on what these words cannot express.
    support: example → how many things of its target `primary` counts, such as its entities. By default 1 for each
        unit (text or word) with a target.
    configure: options of the user (`adapters train --set KEY=VALUE`) → the task with these options. Raises
        ValueError for an unknown option or value. None for a task without options.
    probe: texts whose logits are stored with each adapter, and compared with new ones whenever it is loaded.
    """

    name: str
    summary: str
    level: Level
    read: Callable[[Record], Example]
    labels: Labels | Callable[[Sequence[Example]], Labels]
    targets: Callable[[Example, Labels], Sequence[int] | Sequence[float]]
    make_head: Callable[[HeadContext], nn.Module]
    loss: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    decode: Callable[[Example, np.ndarray, Labels, JSONObject], JSONObject]
    evaluate: Callable[[Sequence[Example], Sequence[np.ndarray], Labels, JSONObject], JSONObject]
    primary: str
    calibrate: Callable[[Sequence[Example], Sequence[np.ndarray], Labels], JSONObject] | None = None
    split: Callable[[str], tuple[Span, ...]] | None = None
    splitter: str = ""
    older_splits: Mapping[str, Callable[[str], tuple[Span, ...]]] = field(default_factory=dict, hash=False)
    flexible_words: bool = False
    notes: Callable[[Sequence[Example]], Sequence[str | TaskNote]] | None = None
    encoded_notes: Callable[[Sequence[Example]], Sequence[str | TaskNote]] | None = None
    support: Callable[[Example], int] | None = None
    configure: Callable[[Mapping[str, str]], TaskSpec] | None = None
    probe: tuple[str, ...] = field(default=DEFAULT_PROBE)

    def __post_init__(self) -> None:
        """Check all fields. Raises TaskSpecError that lists every fault."""
        faults = [f"{name} must be callable" for name in FUNCTIONS if not callable(getattr(self, name))]
        given = [name for name in _OPTIONAL if getattr(self, name) is not None]
        faults += [f"{name} must be callable or None" for name in given if not callable(getattr(self, name))]
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", self.name):
            faults.append("name must be lower-case letters, digits, '_' or '-', at most 64")
        if not self.summary or "\n" in self.summary:
            faults.append("summary must be one line")
        if self.level not in ("token", "text"):
            faults.append(f"level must be 'token' or 'text', not {self.level!r}")
        if self.level == "token" and self.split is None:
            faults.append("level 'token' needs split")
        if not callable(self.labels):
            faults += label_faults(self.labels)
        if not self.primary:
            faults.append("primary must name a metric")
        if not self.probe:
            faults.append("probe needs at least one text")
        if len(self.probe) > MAX_PROBE:
            faults.append(f"probe must have at most {MAX_PROBE} texts, not {len(self.probe)}")
        if (longest := max(map(len, self.probe), default=0)) > MAX_PROBE_CHARACTERS:
            faults.append(
                f"probe must have texts of at most {MAX_PROBE_CHARACTERS} characters, not {longest}"
            )
        if faults:
            raise TaskSpecError(str(self.name), faults)

    def learn_labels(self, examples: Sequence[Example]) -> Labels:
        """Return the fixed labels, or those collected from `examples`.

        Raises TaskSpecError for invalid labels, and the exceptions of the task's function.
        """
        if not callable(self.labels):
            return self.labels
        labels = tuple(self.labels(examples))
        if faults := list(label_faults(labels)):
            raise TaskSpecError(self.name, faults)
        return labels

    def with_splitter(self, splitter: str) -> TaskSpec | None:
        """Return the task as it was with an older `split`; None for an unknown identifier.

        splitter: its identifier; that of `split` itself returns this task.
        """
        if splitter == self.splitter:
            return self
        older = self.older_splits.get(splitter)
        return older and replace(self, split=older, splitter=splitter, flexible_words=False)

    def unlabelled(self, text: str, words: tuple[Span, ...] = ()) -> Example:
        """Return an example of `text` without a target, with word spans for level `token`.

        words: the spans; with (), `split` finds them.
        """
        return Example(text, words=self.spans(Example(text, words=words)))

    def spans(self, example: Example) -> tuple[Span, ...]:
        """Return `example.words`, or the spans that `split` finds if it has none; () for level `text`."""
        if self.level == "text" or self.split is None:
            return ()
        return example.words or self.split(example.text)

    def finest_words(self, example: Example) -> tuple[Span, ...]:
        """Return the words of `example` before those that share a token are joined; see `flexible_words`."""
        words = self.spans(example)
        if not (self.flexible_words and self.split and example.words):
            return words
        parts = ((start, self.split(example.text[start:end])) for start, end in words)
        return tuple((start + first, start + last) for start, own in parts for first, last in own)

    def with_words(self, example: Example, words: tuple[Span, ...]) -> Example:
        """Return `example` with the words that get logits."""
        return replace(example, words=words) if self.level == "token" else example

    def units(self, example: Example) -> int:
        """Return the number of units of `example`."""
        return self.units_of(len(self.spans(example)), 1)

    def units_of(self, words: int, texts: int) -> int:
        """Return the number of units of `texts` texts with `words` words in total."""
        return words if self.level == "token" else texts


FUNCTIONS = ("read", "targets", "make_head", "loss", "decode", "evaluate")
"""The fields of `TaskSpec` that must be functions."""
_OPTIONAL = ("calibrate", "split", "notes", "encoded_notes", "support", "configure")


def label_faults(labels: Sequence[object]) -> Iterator[str]:
    """Yield a message if `labels` are not distinct, non-empty strings."""
    if odd := [label for label in labels if not isinstance(label, str) or not label]:
        yield f"labels has {odd[0]!r}; expected non-empty strings"
    elif len(set(labels)) != len(labels):
        yield "labels has duplicates"
    elif len(labels) > MAX_LABELS:
        yield f"labels has {len(labels)} labels; at most {MAX_LABELS} are allowed"
    elif long := [label for label in labels if len(label) > MAX_LABEL_CHARACTERS]:  # type: ignore[arg-type]
        shown, size = long[0][:40], len(long[0])  # type: ignore[index,arg-type]
        yield f"labels has {shown!r}… of {size} characters; at most {MAX_LABEL_CHARACTERS} are allowed"
