"""The classification heads for words and for texts, with the weight names of transformers.

A head maps packed hidden states (T, H) float32 to logits (units, labels): T tokens, the hidden size H, and one unit
per word or per text. Its weights are float32. A fresh head draws its initial weights from torch's global random
generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from onetrunk.core.tasks.records import HeadContext, HeadFormat, HeadStyle, Rows

_INIT_STD = 0.02


def token_head(context: HeadContext) -> nn.Module:
    """Return a linear head on the first token of each word, as in transformers' ...ForTokenClassification.

    With the style `plain`, its weights are stored in `head.safetensors`.
    """
    plain = context.style == "plain"
    format = HeadFormat(recipe="words") if plain else HeadFormat("TOKEN_CLS", "token")
    return LinearHead(context, lambda hidden, rows: hidden.index_select(0, rows.words), format)


def text_head(context: HeadContext) -> nn.Module:
    """Return a head with one row of logits per text.

    With the pooling `mean`, it is a linear head on the mean of all tokens, special tokens included. With the
    pooling `cls`, it is transformers' head of the style of `context`; for the style `plain`, it is a linear head on
    the first token. PEFT's format has no linear heads for texts, so their weights are stored in `head.safetensors`.
    """
    if context.pooling == "mean":
        return LinearHead(
            context, lambda hidden, rows: segment_means(hidden, rows.offsets), HeadFormat(recipe="mean")
        )
    if context.style == "plain":
        return LinearHead(context, _first_rows, HeadFormat(recipe="first"))
    return ClsHead(context, _CLS_LAYERS[context.style])


class LinearHead(nn.Module):
    """A dropout and one linear layer on one vector per unit.

    select: maps hidden states (T, H) to the vectors (units, H).
    """

    def __init__(
        self, context: HeadContext, select: Callable[[Tensor, Rows], Tensor], format: HeadFormat
    ) -> None:
        super().__init__()
        self.select, self.format = select, format
        self.dropout = nn.Dropout(context.dropout)
        self.classifier = _linear(context, len(context.labels))

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Map hidden (T, H) to logits (units, labels)."""
        logits: Tensor = self.classifier(self.dropout(self.select(hidden, rows)))
        return logits


class _ClsLayers(NamedTuple):
    """The two linear layers of a head, by the names of their weights in transformers.

    activation: between the two layers.  input_dropout: whether there is a dropout before the first layer too.
    """

    dense: str
    output: str
    activation: type[nn.Module]
    input_dropout: bool = False


_POOLER = "pooler.dense"
_CLS_LAYERS: dict[HeadStyle, _ClsLayers] = {
    "bert": _ClsLayers(_POOLER, "classifier", nn.Tanh),
    "deberta": _ClsLayers(_POOLER, "classifier", nn.GELU),
    "roberta": _ClsLayers("classifier.dense", "classifier.out_proj", nn.Tanh, input_dropout=True),
    "electra": _ClsLayers("classifier.dense", "classifier.out_proj", nn.GELU, input_dropout=True),
    "distilbert": _ClsLayers("pre_classifier", "classifier", nn.ReLU),
}


class ClsHead(nn.Module):
    """Two linear layers on the first token of each text, as in transformers' ...ForSequenceClassification."""

    format: ClassVar[HeadFormat] = HeadFormat("SEQ_CLS", "cls")

    def __init__(self, context: HeadContext, layers: _ClsLayers) -> None:
        super().__init__()
        self._layers = layers
        for name, outputs in ((layers.dense, context.hidden_size), (layers.output, len(context.labels))):
            parent, _, child = name.rpartition(".")
            if parent and not hasattr(self, parent):
                self.add_module(parent, nn.Module())
            self.get_submodule(parent).add_module(child, _linear(context, outputs))
        self.dropout = nn.Dropout(context.dropout)
        self.activation = layers.activation()
        if layers.dense == _POOLER and context.fresh and context.pooler is not None:
            weight, bias = context.pooler
            self.get_submodule(_POOLER).load_state_dict({"weight": weight, "bias": bias})

    def forward(self, hidden: Tensor, rows: Rows) -> Tensor:
        """Map hidden (T, H) to logits (texts, labels)."""
        first = _first_rows(hidden, rows)
        if self._layers.input_dropout:
            first = self.dropout(first)
        inner = self.activation(self.get_submodule(self._layers.dense)(first))
        logits: Tensor = self.get_submodule(self._layers.output)(self.dropout(inner))
        return logits


def segment_means(hidden: Tensor, offsets: Tensor) -> Tensor:
    """Return the mean of the hidden states of each text, (texts, H); zeros for a text without rows.

    hidden: (T, H).
    offsets: (texts + 1,) int64; text i has the rows offsets[i]:offsets[i+1].
    The rows are added in order, so the result on the CPU is the same bit for bit each time.
    """
    lengths = offsets.diff()
    owner = torch.repeat_interleave(lengths, output_size=hidden.shape[0])
    sums = hidden.new_zeros(len(lengths), hidden.shape[1]).index_add(0, owner, hidden)
    return sums / lengths.clamp(min=1).to(hidden.dtype)[:, None]


def _first_rows(hidden: Tensor, rows: Rows) -> Tensor:
    return hidden.index_select(0, rows.offsets[:-1])


def _linear(context: HeadContext, outputs: int) -> nn.Linear:
    kind = nn.Linear if context.fresh else _Uninitialized
    layer = kind(context.hidden_size, outputs, dtype=torch.float32)
    if context.fresh:
        nn.init.normal_(layer.weight, std=_INIT_STD)
        nn.init.zeros_(layer.bias)
    return layer


class _Uninitialized(nn.Linear):
    def reset_parameters(self) -> None:
        """Skip the initialization, because stored weights will be loaded."""
