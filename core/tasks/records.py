"""The records that the core and a task exchange: examples, targets, notes, and what a head gets.

A *unit* is a part of a text that has one row of logits: a word for a task of level `token`, the whole text for a
task of level `text`. Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from onetrunk.adapters.errors import first_few

if TYPE_CHECKING:
    from torch import Tensor, nn

Level = Literal["token", "text"]
Pooling = Literal["cls", "mean"]
HeadStyle = Literal["bert", "roberta", "electra", "distilbert", "deberta", "plain"]
Span = tuple[int, int]
"""Start and end (exclusive) of a part of a text, in Unicode characters."""
Labels = tuple[str, ...]
Record = Mapping[str, Any]
"""One raw record of a file: a JSON object, a CSV row, or `{"words": [...], "tags": [...]}` from CoNLL."""
JSONObject = dict[str, Any]
Targets = tuple[int, ...] | tuple[float, ...]
"""The targets of one text for the loss: all integers, or all floats."""

_LABELS_SHOWN = 20

IGNORE = -100
"""The target of a unit without a label; the loss ignores the unit."""


@dataclass(frozen=True, slots=True)
class Example:
    """One record after `TaskSpec.read`.

    text: the text to tokenize.
    target: the gold answer in the format of the task, such as one label per word or per span (level `token`) or one
        label (level `text`); None if the record has none.
    words: character spans of the words, in order, for level `token`; with (), `TaskSpec.split` finds them.
    where: `file:line`, for messages; the core sets it.
    remarks: corrections that `read` made to the record, one sentence each; `TaskSpec.notes` can report them.
    spans: for a target that is a sequence of labels of parts of the text, such as entities: the characters of each.
    """

    text: str
    target: Any = None
    words: tuple[Span, ...] = ()
    where: str = ""
    remarks: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskNote:
    """What a task has to say about the examples of a data set, although it is no error.

    kind: a fixed identifier for programs, such as `entities-trimmed`.
    message: one sentence with the count.
    count: the number of rows, entities or labels concerned; 0 if nothing is counted.
    where: `file:line` of the first one; "" if no line can be named.
    """

    kind: str
    message: str
    count: int = 0
    where: str = ""


class UnknownLabel(ValueError):
    """The target of an example has the label `name`, which the adapter lacks.

    kind, known: what such a name is called, and the known names, for the message.
    labels: the labels that the adapter would need for `name`; by default `name` itself.
    """

    def __init__(
        self, name: str, known: Sequence[str], labels: Sequence[str] = (), kind: str = "label"
    ) -> None:
        super().__init__(f"unknown {kind} {name!r}; known: {first_few(known, _LABELS_SHOWN)}")
        self.labels = tuple(labels) or (name,)


@dataclass(frozen=True, slots=True)
class Rows:
    """Positions of texts and words in the packed hidden states (T, H) that a head gets.

    offsets: (texts + 1,) int64; text i has the rows offsets[i]:offsets[i+1], including its special tokens.
    words: (words,) int64; the row of the first token of each word, over all texts in order.
    """

    offsets: Tensor
    words: Tensor


@dataclass(frozen=True, slots=True)
class HeadContext:
    """The arguments of `TaskSpec.make_head`.

    hidden_size: H, the size of the hidden states.
    labels: the labels of the adapter; logit i belongs to label i.
    pooling: how the hidden states of a text become one vector: the first token (`cls`) or the mean.
    dropout: the probability of the dropout layers of the head, from 0 to 1.
    style: the sequence classification head of transformers for this encoder: `bert` (pooler with tanh, classifier),
        `deberta` (pooler with gelu, classifier), `roberta` and `electra` (a dense layer with tanh or gelu,
        classifier), `distilbert` (a linear layer with relu, classifier); `plain` for any other head.
    pooler: weight (H, H) and bias (H,) of the pretrained pooler, None if the backbone has none.
    fresh: False if stored weights will be loaded into the head, which then needs no initialization.
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
    """How a head is stored, and how it is used without OneTrunk. A head has it as its attribute `format`.

    The defaults are for a head without this attribute.

    task_type: PEFT's task type of the transformers model with the same head. None if there is no such model; the
        head is then stored in `head.safetensors`.
    recipe: the name of the code sample on the model card that uses the head without OneTrunk, None for no sample.
    """

    task_type: Literal["TOKEN_CLS", "SEQ_CLS"] | None = None
    recipe: Literal["token", "cls", "words", "first", "mean"] | None = None

    @classmethod
    def of(cls, head: nn.Module) -> HeadFormat:
        """Return the attribute `format` of `head`, or the defaults if it has none."""
        declared = getattr(head, "format", None)
        return declared if isinstance(declared, cls) else cls()

    @property
    def stored_type(self) -> str:
        """Return the `task_type` of adapter_config.json, a key of `adapters.methods.target_modules.MODELS`."""
        return self.task_type or "FEATURE_EXTRACTION"
