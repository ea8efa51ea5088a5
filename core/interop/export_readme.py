"""Writes the README.md of an exported adapter, which describes its files and shows how to use them."""

from __future__ import annotations

from importlib.metadata import version

from onetrunk.adapters.card.markup import code
from onetrunk.adapters.card.samples import LABELS, CodeSample, ExportFormat
from onetrunk.adapters.format.artifact import HEAD, TASK, Artifact
from onetrunk.core.inference.adapter import Adapter

_INTRODUCTION = {
    "peft": "A plain PEFT adapter for",
    "merged": "A transformers model: the adapter is merged into the weights of",
    "onnx": "An ONNX graph: the adapter is merged into the weights of",
}
_SEPARATE_HEAD = {
    "peft": "PEFT's format cannot hold this adapter's head. The PEFT adapter is for the encoder without a head",
    "merged": "transformers has no model with this adapter's head. The model is the encoder without a head",
}


def readme(artifact: Artifact, adapter: Adapter, form: ExportFormat, texts: int, difference: float) -> str:
    """Return the content of README.md.

    texts: the number of texts for which the logits of the export were compared with OneTrunk's.
    difference: the largest difference between two logits.
    """
    backbone = artifact.manifest.backbone
    revision = "" if backbone.revision is None else f" at revision {code(backbone.revision)}"
    settings = ", and the settings of the task's decoder as `settings`" if adapter.settings else ""
    separate = form != "onnx" and adapter.format.task_type is None
    parts = [
        f"# {adapter.ref}",
        f"{_INTRODUCTION[form]} {code(backbone.name)}{revision}. Exported by OneTrunk {version('onetrunk')} from "
        f"{code(adapter.ref)}, an adapter for the task {code(adapter.spec.name)}. The sha256 of its `{TASK}` is "
        f"`{artifact.id}`.",
        *([f"{_SEPARATE_HEAD[form]}; `{HEAD}` has the weights of the head."] if separate else []),
        f"`{LABELS}` has the labels in the order of the logits{settings}.",
        _usage(artifact, adapter, form),
        f"For {texts} texts, each alone and all in one batch, the logits differ from OneTrunk's by at most "
        f"{difference:.1e}.",
    ]
    return "\n\n".join(parts) + "\n"


def _usage(artifact: Artifact, adapter: Adapter, form: ExportFormat) -> str:
    recipe = adapter.format.recipe
    if recipe is None:
        return f"Only the task's plugin defines how the weights in `{HEAD}` are used."
    sample = CodeSample(recipe, artifact.manifest.backbone, form, labels_file=LABELS)
    words = " The row of a word is that of its first token." if adapter.spec.level == "token" else ""
    return f"For a string `text`:{words}\n\n```python\n{sample.code()}```"
