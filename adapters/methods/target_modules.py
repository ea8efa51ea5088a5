"""The modules that LoRA can adapt: their names here, and their paths in transformers' encoders. No torch import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MODULES = ("query", "key", "value", "attention_output", "intermediate", "output")
"""The linear modules of an encoder layer that can be adapted, in the order of the forward pass."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of the modules in a family of encoders.

    layers: path of the list of layers, such as `encoder.layer`.
    modules: name of each module → its path below a layer, in the order of the forward pass.
    """

    layers: str
    modules: Mapping[str, str]

    def path(self, layer: int, module: str) -> str:
        """Return the path of a module in the bare encoder, such as `encoder.layer.0.attention.self.query`."""
        return f"{self.layers}.{layer}.{self.modules[module]}"


BERT_LAYOUT = Layout(
    "encoder.layer",
    {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
        "intermediate": "intermediate.dense",
        "output": "output.dense",
    },
)
"""The layout of BERT and of most later encoders."""

MODELS = {
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "FEATURE_EXTRACTION": "AutoModel",
}
"""PEFT's task type → the transformers class of the model that an adapter is loaded onto."""
