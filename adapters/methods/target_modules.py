"""The modules that LoRA can adapt: their names, and where they stand in an encoder of transformers. To list them
loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MODULES = ("query", "key", "value", "attention_output", "intermediate", "output")
"""The linear modules of an encoder layer that can be adapted, in the order of the forward pass."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the adaptable modules stand in the bare encoder, and so in the files of PEFT.

    layers: path of the list of layers, `encoder.layer`.
    modules: name of each module → its path below a layer, in the order of the forward pass.
    """

    layers: str
    modules: Mapping[str, str]

    def path(self, layer: int, module: str) -> str:
        """Return the path of `module` in the bare encoder, `encoder.layer.0.attention.self.query`."""
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
"""The layout of BERT, and of most that came after it."""

MODELS = {
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "FEATURE_EXTRACTION": "AutoModel",
}
"""The class of transformers that an adapter is loaded onto, by PEFT's name for its task."""
