"""What stands on top of the trunk: heads for words and for texts, with the weights' names of transformers.

All take packed hidden states, (T, H) float32 as their own weights are. A fresh head draws its first weights from
torch's global generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onetrunk.core.tasks.spec import HeadContext, HeadFormat, HeadStyle, Rows

_INIT_STD = 0.02


def token_head(context: HeadContext) -> nn.Module:
    """Return a head with one row of logits a word, by the style of `context`."""
    return PlainTokenHead(context) if context.style == "plain" else TokenHead(context)


def text_head(context: HeadContext) -> nn.Module:
    """Return a head with one row of logits a text, by the pooling and the style of `context`."""
    if context.pooling == "mean":
        return MeanHead(context)
    return _CLS_HEADS[context.style](context)


class TokenHead(nn.Module):
    """A linear classifier on the first token of each word, as transformers' ...ForTokenClassification."""

    format: ClassVar[HeadFormat] = HeadFormat("TOKEN_CLS", "token")

    def __init__(self, context: HeadContext) -> None:
        super().__init__()
        self.dropout = nn.Dropout(context.dropout)
        self.classifier = _linear(context, len(context.labels))

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Map hidden (T, H) to logits (words, labels)."""
        words = hidden.index_select(0, rows.words)
        logits: Tensor = self.classifier(self.dropout(words))
        return logits


class PlainTokenHead(TokenHead):
    """The same for an encoder whose token classification model is another: stored in `head.safetensors`."""

    format: ClassVar[HeadFormat] = HeadFormat(recipe="words")


class BertClsHead(nn.Module):
    """Pooler and classifier on the first token, as transformers' BertForSequenceClassification."""

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

    def activation(self, x: Tensor) -> Tensor:
        """Return tanh of `x`."""
        return torch.tanh(x)


class DebertaClsHead(BertClsHead):
    """The same with gelu, as transformers' DebertaV2ForSequenceClassification."""

    def activation(self, x: Tensor) -> Tensor:
        """Return gelu of `x`."""
        return F.gelu(x)


class RobertaClsHead(nn.Module):
    """Two linear layers on the first token, as transformers' RobertaForSequenceClassification."""

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

    def activation(self, x: Tensor) -> Tensor:
        """Return tanh of `x`."""
        return torch.tanh(x)


class ElectraClsHead(RobertaClsHead):
    """The same with gelu, as transformers' ElectraForSequenceClassification."""

    def activation(self, x: Tensor) -> Tensor:
        """Return gelu of `x`."""
        return F.gelu(x)


class DistilBertClsHead(nn.Module):
    """Two linear layers on the first token, as transformers' DistilBertForSequenceClassification."""

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


class PlainClsHead(nn.Module):
    """A linear classifier on the first token, for an encoder whose own classification model is another.

    The weights are stored in `head.safetensors`.
    """

    format: ClassVar[HeadFormat] = HeadFormat(recipe="first")

    def __init__(self, context: HeadContext) -> None:
        super().__init__()
        self.dropout = nn.Dropout(context.dropout)
        self.classifier = _linear(context, len(context.labels))

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Map hidden (T, H) to logits (texts, labels)."""
        first = _first_rows(hidden, rows)
        logits: Tensor = self.classifier(self.dropout(first))
        return logits


_CLS_HEADS: dict[HeadStyle, Callable[[HeadContext], nn.Module]] = {
    "bert": BertClsHead,
    "roberta": RobertaClsHead,
    "electra": ElectraClsHead,
    "distilbert": DistilBertClsHead,
    "deberta": DebertaClsHead,
    "plain": PlainClsHead,
}


class MeanHead(nn.Module):
    """A linear classifier on the mean of a text's rows, special tokens included.

    That is how sentence-transformers pools. PEFT's format cannot express it, so that the weights are stored
    in `head.safetensors`.
    """

    format: ClassVar[HeadFormat] = HeadFormat(recipe="mean")

    def __init__(self, context: HeadContext) -> None:
        super().__init__()
        self.dropout = nn.Dropout(context.dropout)
        self.classifier = _linear(context, len(context.labels))

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Map hidden (T, H) to logits (texts, labels)."""
        pooled = segment_means(hidden, rows.offsets)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


def segment_means(hidden: Tensor, offsets: Tensor) -> Tensor:
    """Return the mean of the rows of each text, (texts, H), zeros for a text without rows.

    hidden: (T, H); offsets: (texts + 1,) int64. Adds row after row: the same bits every time on the CPU.
    """
    lengths = offsets.diff()
    owner = torch.repeat_interleave(lengths, output_size=hidden.shape[0])
    sums = hidden.new_zeros(len(lengths), hidden.shape[1]).index_add(0, owner, hidden)
    return sums / lengths.clamp(min=1).to(hidden.dtype)[:, None]


def _first_rows(hidden: Tensor, rows: Rows) -> Tensor:
    return hidden.index_select(0, rows.offsets[:-1])


class _Undrawn(nn.Linear):
    """A linear whose weights will be loaded."""

    def reset_parameters(self) -> None:
        """Draw nothing."""


def _linear(context: HeadContext, outputs: int) -> nn.Linear:
    if not context.fresh:
        return _Undrawn(context.hidden_size, outputs, dtype=torch.float32)
    layer = nn.Linear(context.hidden_size, outputs, dtype=torch.float32)
    nn.init.normal_(layer.weight, std=_INIT_STD)
    nn.init.zeros_(layer.bias)
    return layer


def _copy(weights: tuple[Tensor, Tensor], layer: nn.Module) -> None:
    weight, bias = weights
    layer.load_state_dict({"weight": weight, "bias": bias})
