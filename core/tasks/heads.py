"""The classification heads for words and for texts, with the weight names of transformers.

A head takes packed hidden states (T, H) in float32; its weights are float32 too. A fresh head draws its initial
weights from the global generator of torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onetrunk.core.tasks.spec import HeadContext, HeadFormat, HeadStyle, Rows

_INIT_STD = 0.02


def token_head(context: HeadContext) -> nn.Module:
    """Return a head with one row of logits per word, chosen by the style of `context`."""
    return PlainTokenHead(context) if context.style == "plain" else TokenHead(context)


def text_head(context: HeadContext) -> nn.Module:
    """Return a head with one row of logits per text, chosen by the pooling and the style of `context`."""
    if context.pooling == "mean":
        return MeanHead(context)
    return _CLS_HEADS[context.style](context)


class LinearHead(nn.Module, ABC):
    """A linear classifier on one vector per unit; a subclass defines how `select` gets the vectors."""

    def __init__(self, context: HeadContext) -> None:
        super().__init__()
        self.dropout = nn.Dropout(context.dropout)
        self.classifier = _linear(context, len(context.labels))

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Map hidden (T, H) to logits (units, labels)."""
        logits: Tensor = self.classifier(self.dropout(self.select(hidden, rows)))
        return logits

    @abstractmethod
    def select(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Map hidden (T, H) to one vector per unit, (units, H)."""


class TokenHead(LinearHead):
    """The classifier on the first token of each word, as in transformers' ...ForTokenClassification."""

    format: ClassVar[HeadFormat] = HeadFormat("TOKEN_CLS", "token")

    def select(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Return the hidden states of the first token of each word, (words, H)."""
        return hidden.index_select(0, rows.words)


class PlainTokenHead(TokenHead):
    """The same head for an encoder with another token classification head in transformers.

    The weights are stored in `head.safetensors`.
    """

    format: ClassVar[HeadFormat] = HeadFormat(recipe="words")


class PlainClsHead(LinearHead):
    """The classifier on the first token, for an encoder with another head in transformers.

    The weights are stored in `head.safetensors`.
    """

    format: ClassVar[HeadFormat] = HeadFormat(recipe="first")

    def select(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Return the hidden states of the first token of each text, (texts, H)."""
        return _first_rows(hidden, rows)


class MeanHead(LinearHead):
    """The classifier on the mean over a text, special tokens included, as sentence-transformers pools.

    PEFT's format has no such head, so the weights are stored in `head.safetensors`.
    """

    format: ClassVar[HeadFormat] = HeadFormat(recipe="mean")

    def select(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Return the mean hidden states of each text, (texts, H)."""
        return segment_means(hidden, rows.offsets)


class BertClsHead(nn.Module):
    """A pooler and a classifier on the first token, as in transformers' BertForSequenceClassification."""

    activation: ClassVar[nn.Module] = nn.Tanh()
    format: ClassVar[HeadFormat] = HeadFormat("SEQ_CLS", "cls")

    def __init__(self, context: HeadContext) -> None:
        super().__init__()
        self.pooler = nn.ModuleDict({"dense": _linear(context, context.hidden_size)})
        if context.fresh and context.pooler is not None:
            _copy(context.pooler, self.pooler["dense"])
        self.dropout = nn.Dropout(context.dropout)
        self.classifier = _linear(context, len(context.labels))

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Map hidden (T, H) to logits (texts, labels)."""
        first = _first_rows(hidden, rows)
        pooled = self.activation(self.pooler["dense"](first))
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


class DebertaClsHead(BertClsHead):
    """The same head with gelu, as in transformers' DebertaV2ForSequenceClassification."""

    activation: ClassVar[nn.Module] = nn.GELU()


class RobertaClsHead(nn.Module):
    """Two linear layers on the first token, as in transformers' RobertaForSequenceClassification."""

    activation: ClassVar[nn.Module] = nn.Tanh()
    format: ClassVar[HeadFormat] = HeadFormat("SEQ_CLS", "cls")

    def __init__(self, context: HeadContext) -> None:
        super().__init__()
        self.dropout = nn.Dropout(context.dropout)
        self.classifier = nn.ModuleDict(
            {
                "dense": _linear(context, context.hidden_size),
                "out_proj": _linear(context, len(context.labels)),
            }
        )

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Map hidden (T, H) to logits (texts, labels)."""
        dense, out_proj = self.classifier["dense"], self.classifier["out_proj"]
        first = _first_rows(hidden, rows)
        logits: Tensor = out_proj(self.dropout(self.activation(dense(self.dropout(first)))))
        return logits


class ElectraClsHead(RobertaClsHead):
    """The same head with gelu, as in transformers' ElectraForSequenceClassification."""

    activation: ClassVar[nn.Module] = nn.GELU()


class DistilBertClsHead(nn.Module):
    """Two linear layers on the first token, as in transformers' DistilBertForSequenceClassification."""

    format: ClassVar[HeadFormat] = HeadFormat("SEQ_CLS", "cls")

    def __init__(self, context: HeadContext) -> None:
        super().__init__()
        self.pre_classifier = _linear(context, context.hidden_size)
        self.dropout = nn.Dropout(context.dropout)
        self.classifier = _linear(context, len(context.labels))

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Map hidden (T, H) to logits (texts, labels)."""
        first = _first_rows(hidden, rows)
        logits: Tensor = self.classifier(self.dropout(F.relu(self.pre_classifier(first))))
        return logits


_CLS_HEADS: dict[HeadStyle, Callable[[HeadContext], nn.Module]] = {
    "bert": BertClsHead,
    "roberta": RobertaClsHead,
    "electra": ElectraClsHead,
    "distilbert": DistilBertClsHead,
    "deberta": DebertaClsHead,
    "plain": PlainClsHead,
}


def segment_means(hidden: Tensor, offsets: Tensor) -> Tensor:
    """Return the mean of the rows of each text, (texts, H); zeros for a text without rows.

    hidden: (T, H).
    offsets: (texts + 1,) int64, as in `Rows`.
    The rows are added in order, so the result on the CPU is the same bit for bit each time.
    """
    lengths = offsets.diff()
    owner = torch.repeat_interleave(lengths, output_size=hidden.shape[0])
    sums = hidden.new_zeros(len(lengths), hidden.shape[1]).index_add(0, owner, hidden)
    return sums / lengths.clamp(min=1).to(hidden.dtype)[:, None]


def _first_rows(hidden: Tensor, rows: Rows) -> Tensor:
    return hidden.index_select(0, rows.offsets[:-1])


class _Uninitialized(nn.Linear):
    """A linear layer whose weights will be loaded."""

    def reset_parameters(self) -> None:
        """Skip the random initialization."""


def _linear(context: HeadContext, outputs: int) -> nn.Linear:
    if not context.fresh:
        return _Uninitialized(context.hidden_size, outputs, dtype=torch.float32)
    layer = nn.Linear(context.hidden_size, outputs, dtype=torch.float32)
    nn.init.normal_(layer.weight, std=_INIT_STD)
    nn.init.zeros_(layer.bias)
    return layer


def _copy(weights: tuple[Tensor, Tensor], layer: nn.Module) -> None:
    weight, bias = weights
    layer.load_state_dict({"weight": weight, "bias": bias})
