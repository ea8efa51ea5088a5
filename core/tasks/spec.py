"""The contract of a task: what a plugin describes, and the records that pass between it and the core.

A task is one frozen `TaskSpec`. The core reads files, tokenises, packs, runs the trunk, trains, stores
and serves; the task says what a record means, which labels there are, what stands on top of the trunk,
and what its logits mean. This module imports no torch, so that listing tasks stays cheap.

A *unit* is what gets one row of logits: a word for a task of level `token`, a text for level `text`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from onetrunk.adapters.errors import first_few
from onetrunk.adapters.format.bounds import MAX_PROBE
from onetrunk.core.errors import TaskSpecError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

Level = Literal["token", "text"]
Pooling = Literal["cls", "mean"]
HeadStyle = Literal["bert", "roberta", "electra", "distilbert", "deberta", "plain"]
Span = tuple[int, int]
"""Start and end (exclusive) in Unicode characters of a text."""
Labels = tuple[str, ...]
Record = Mapping[str, Any]
"""One raw record as its file has it: a JSON object, a CSV row, or `{"words": [...], "tags": [...]}`."""
JSONObject = dict[str, Any]
Targets = tuple[int, ...] | tuple[float, ...]
"""What the loss is given for one text: all integers, or all floats."""

IGNORE = -100
"""The target of a unit that the loss must pass over."""

DEFAULT_PROBE = (
    "Ada Lovelace wrote to Charles Babbage from London on Tuesday.",
    "not good",
    "¿Dónde está mi pedido nº 42? 東京 🙂",
    "",
)


@dataclass(frozen=True, slots=True)
class Example:
    """One record, understood.

    text: what is tokenised.
    target: the gold answer, in the task's own terms: for level `token` a label for each word, for level
        `text` a label; None when the record has none.
    words: the character spans of the words, in order, for level `token`; () lets the task split the text.
    where: `file:line`, for messages.
    remarks: what `read` had to change in the record, for the task's `notes`.
    """

    text: str
    target: Any = None
    words: tuple[Span, ...] = ()
    where: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """Where each sequence and each word stands among the packed hidden states a head is given.

    offsets: (texts + 1,) int64; text i has the rows offsets[i]:offsets[i+1], special tokens included.
    words: (words,) int64; the row of the first token of each word of all texts, in order.
    """

    offsets: Tensor
    words: Tensor


@dataclass(frozen=True, slots=True)
class HeadContext:
    """What a head may depend on.

    hidden_size: width of the hidden states.
    labels: the adapter's labels, in the order of its logits.
    pooling: how a text becomes one vector.
    dropout: probability for the dropout layers of the head.
    style: how transformers builds the sequence classification head: `bert` (pooler with tanh, then classifier),
        `deberta` (the same with gelu), `roberta` and `electra` (classifier with its own dense layer, tanh or gelu
        after it), `distilbert` (one more linear before the classifier); `plain` where its heads are not ours.
    pooler: weight (H, H) and bias (H,) of the backbone's own pooler, None where it has none.
    fresh: whether the head begins to learn; False where stored weights replace its own at once, so that it need not
        draw any. A head may take no notice.
    """

    hidden_size: int
    labels: Labels
    pooling: Pooling = "cls"
    dropout: float = 0.1
    style: HeadStyle = "bert"
    pooler: tuple[Tensor, Tensor] | None = None
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class HeadFormat:
    """How a head is stored, and used without OneTrunk: the attribute `format` of a head that is built as ours are.

    The defaults are those of a head that is its plugin's own, and declares nothing.

    task_type: PEFT's name for the task of the transformers model with such a head; None where transformers has
        none, and the head is stored in a file of its own.
    recipe: which lines on the model card use it without OneTrunk; None for none.
    """

    task_type: Literal["TOKEN_CLS", "SEQ_CLS"] | None = None
    recipe: Literal["token", "cls", "words", "first", "mean"] | None = None

    @classmethod
    def of(cls, head: nn.Module) -> HeadFormat:
        """Return what `head` declares, the defaults where it declares nothing."""
        declared = getattr(head, "format", None)
        return declared if isinstance(declared, cls) else cls()

    @property
    def stored_type(self) -> str:
        """The `task_type` in adapter_config.json, a key of `onetrunk.adapters.methods.target_modules.MODELS`."""
        return self.task_type or "FEATURE_EXTRACTION"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A task. All callables must be pure; they may be called from any thread.

    name: lower-case identifier, as users type it.
    summary: one line for lists.
    level: what gets a row of logits, a word (`token`) or a text (`text`).
    read: raw record → `Example`. Raises ValueError with a message for the user; the core adds file and line.
    labels: the labels, fixed, or a function that learns them from the training examples: distinct strings, not
        empty. Raises ValueError for examples that there is nothing to learn from.
    targets: (example, labels) → the numbers that the loss is given for this text. Either all are integers, usually
        one label index a unit, `IGNORE` to pass a unit over; or all are finite floats, as a regression has them.
        All examples of a task give the same kind; truth values are neither. Raises ValueError for a target that the
        labels do not have, and for a target of None that the task cannot learn from; the latter is asked before
        there are labels, with ().
    make_head: builds the module that maps (hidden (T, H) float32, `Rows`) → logits (units, anything). Its weights
        are kept in float32, whatever the precision of the trunk.
    loss: (logits of a batch (units, anything) float32, the targets of its texts end to end, class weights (labels,)
        float32 or None) → scalar. The targets have one dimension: int64 where `targets` gives integers, float32
        where it gives floats. Class weights are given only where every target is a label index, one a unit.
    decode: (example, logits (units of this text, labels) float32, labels, settings) → the prediction, JSON.
    evaluate: (examples, logits of each, labels, settings) → metrics, JSON; numbers at the top level are what
        users see (None: a figure without a value), nested tables go to reports. Called with examples that have
        targets.
    primary: the metric that picks the best epoch; higher is better, and None counts as 0. While it is 0, nothing
        has been found yet: no epoch counts towards `patience`, and the last one is the best.
    calibrate: (dev examples, logits of each, labels) → decoder settings, JSON. Called after each epoch, before
        `evaluate` on dev; those of the best epoch are kept with the adapter.
    split: text → word spans, for level `token`.
    notes: examples of one data set → lines that its user should know, such as how many `remarks` there are; `train`
        and `eval` print them with the name of the file.
    probe: texts whose logits are recorded with each adapter and compared whenever it is loaded.
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
    notes: Callable[[Sequence[Example]], Sequence[str]] | None = None
    probe: tuple[str, ...] = field(default=DEFAULT_PROBE)

    def __post_init__(self) -> None:
        """Check the description as a whole. Raises TaskSpecError with every fault."""
        faults = [f"{name} must be callable" for name in _CALLABLES if not callable(getattr(self, name))]
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
        if faults:
            raise TaskSpecError(str(self.name), faults)

    def learn_labels(self, examples: Sequence[Example]) -> Labels:
        """Return the fixed labels, or those of `examples`.

        Raises TaskSpecError for what are no labels, and what the task's own function raises.
        """
        if not callable(self.labels):
            return self.labels
        labels = tuple(self.labels(examples))
        if faults := list(label_faults(labels)):
            raise TaskSpecError(self.name, faults)
        return labels

    def unlabelled(self, text: str) -> Example:
        """Return a bare text as this task reads it, with its words for level `token`."""
        return Example(text, words=self.spans(Example(text)))

    def spans(self, example: Example) -> tuple[Span, ...]:
        """Return the word spans of `example`: its own, else those of `split`; () for level `text`."""
        if self.level == "text" or self.split is None:
            return ()
        return example.words or self.split(example.text)

    def units(self, example: Example) -> int:
        """Return how many rows of logits `example` gets."""
        return self.units_of(len(self.spans(example)), 1)

    def units_of(self, words: int, texts: int) -> int:
        """Return how many rows of logits so many texts get that have so many words."""
        return words if self.level == "token" else texts


_CALLABLES = ("read", "targets", "make_head", "loss", "decode", "evaluate")
_OPTIONAL = ("calibrate", "split", "notes")


def label_faults(labels: Sequence[object]) -> Iterator[str]:
    """Yield what keeps `labels` from being labels, which are stored, shown and looked up by name."""
    if odd := [label for label in labels if not isinstance(label, str) or not label]:
        yield f"labels has {odd[0]!r}, which is no label, expected a string that is not empty"
    elif len(set(labels)) != len(labels):
        yield "labels has duplicates"


def labelled_text(record: Record) -> Example:
    """Read {"text": ..., "label": ...}, the record of most text tasks; without a label the target is None.

    A label is a string, an integer or a truth value (`true`, `false`), and becomes a string. Raises
    ValueError.
    """
    text, label = record.get("text"), record.get("label")
    if not isinstance(text, str):
        raise ValueError(f"expected a string under 'text', found {text!r}; the record has {sorted(record)}")
    if label is None:
        return Example(text)
    if not isinstance(label, str | int):
        raise ValueError(f"expected a string or an integer under 'label', found {label!r}")
    name = str(label).lower() if isinstance(label, bool) else str(label).strip()
    if not name:
        raise ValueError("the label is empty; name one, or leave 'label' out where there is none")
    return Example(text, name)


def make_text_head(context: HeadContext) -> nn.Module:
    """Return a text head, pooled as `context` says; torch is imported on use, so that a plugin may name it."""
    from onetrunk.core.tasks.heads import text_head

    return text_head(context)


def best_index(logits: np.ndarray) -> int:
    """Return the index of the best label of a text, of equal ones the first; logits: (1, labels)."""
    return int(logits[0].argmax())


def label_index(example: Example, labels: Labels) -> int:
    """Return the index of the target in `labels`. Raises ValueError without a target or on an unknown one."""
    if example.target is None:
        raise ValueError("the record has no label")
    try:
        return labels.index(example.target)
    except ValueError:
        raise ValueError(f"unknown label {example.target!r}; known: {first_few(labels, 20)}") from None
