"""The README.md of an exported adapter: describes its files and shows how to use them."""

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
_HEAD_APART = {
    "peft": f"PEFT's format cannot hold this adapter's head. The PEFT adapter is for the bare encoder, and "
    f"`{HEAD}` has the weights of the head.",
    "merged": f"transformers has no model with this adapter's head. The model is the bare encoder, and "
    f"`{HEAD}` has the weights of the head.",
}


def readme(artifact: Artifact, adapter: Adapter, form: ExportFormat, texts: int, difference: float) -> str:
    """Return the README.md.

    texts: number of texts on which the export was compared with OneTrunk.
    difference: largest difference of a logit.
    """
    backbone = artifact.manifest.backbone
    revision = "" if backbone.revision is None else f" at revision {code(backbone.revision)}"
    settings = f", and the settings of the task's decoder: {code('settings')}" if adapter.settings else ""
    parts = [
        f"# {adapter.ref}",
        f"{_INTRODUCTION[form]} {code(backbone.name)}{revision}. Exported by OneTrunk {version('onetrunk')} from "
        f"{code(adapter.ref)}, an adapter for the task {code(adapter.spec.name)}. The sha256 of its `{TASK}` is "
        f"`{artifact.id}`.",
        *([_HEAD_APART[form]] if form != "onnx" and adapter.format.task_type is None else []),
        f"`{LABELS}` has the labels in the order of the logits{settings}.",
        _usage(artifact, adapter, form),
        f"The logits of {texts} texts, each alone and all in one batch, differ from OneTrunk's by at most "
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
