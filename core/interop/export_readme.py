"""The README.md of an exported adapter: what its files are, and the lines that use them."""

from __future__ import annotations

from importlib.metadata import version

from onetrunk.adapters.card.markup import code, quoted
from onetrunk.adapters.format.artifact import HEAD, Artifact
from onetrunk.adapters.methods.target_modules import MODELS
from onetrunk.core.inference.adapter import Adapter

_BASE = """\
import json, torch
IMPORTS

folder = "."  # this one
labels = json.load(open(f"{folder}/labels.json"))["labels"]
"""

_PEFT = """\
base = BASE
tokenizer = AutoTokenizer.from_pretrained(basePIN)
"""

_LOGITS = """\
with torch.no_grad():
    logits = model(**tokenizer(text, return_tensors="pt")).logits[0]  # SHAPE
"""

_STATES = """\
head = load_file(f"{folder}/head.safetensors")
with torch.no_grad():
    hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]  # (tokens, width)
    logits = ROWS @ head["classifier.weight"].T + head["classifier.bias"]  # SHAPE
"""

_ONNX = """\
import json
import onnxruntime
from transformers import AutoTokenizer

folder = "."  # this one
labels = json.load(open(f"{folder}/labels.json"))["labels"]
tokenizer = AutoTokenizer.from_pretrained(folder)
session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
batch = tokenizer([text], return_token_type_ids=True, return_tensors="np")
(logits,) = session.run(None, {each.name: batch[each.name].astype("int64") for each in session.get_inputs()})
logits = logits[0]  # SHAPE
"""

_ROWS = {"mean": "hidden.mean(0)", "first": "hidden[0]", "words": "hidden"}
_WHAT = {
    "peft": "A plain PEFT adapter, as `PeftModel.from_pretrained` loads it onto",
    "merged": "A model of transformers with the adapter merged into its weights. It was made from",
    "onnx": "One ONNX graph with the adapter merged into its weights. It was made from",
}
_HEAD = {
    "peft": "PEFT's format has no such head as this adapter's: the folder holds the encoder's updates, and the "
    "head's weights in `head.safetensors`.",
    "merged": "transformers has no model with such a head as this adapter's: the folder holds the bare encoder, "
    "merged, and the head's weights in `head.safetensors`.",
}


def readme(ref: str, artifact: Artifact, adapter: Adapter, form: str, texts: int, difference: float) -> str:
    """Return the README.md; difference: the largest of logits from ours, over so many `texts`."""
    base = artifact.manifest.backbone
    rev = "" if base.revision is None else f" at revision {code(base.revision)}"
    apart = form != "onnx" and adapter.format.task_type is None
    parts = [
        f"# {ref}",
        f"{_WHAT[form]} {code(base.name)}{rev}. Exported by OneTrunk {version('onetrunk')} from {code(ref)}, an "
        f"adapter for {code(adapter.spec.name)} whose `task.json` has the sha256 `{artifact.id}`.",
        *([_HEAD[form]] if apart else []),
        "`labels.json` has the labels in the order of the logits"
        + (", and the settings of the task's decoder." if adapter.settings else "."),
        _use(artifact, adapter, form),
        f"On {texts} texts, alone and in a batch, its logits differed from OneTrunk's by {difference:.1e} at most.",
    ]
    return "\n\n".join(parts) + "\n"


def _use(artifact: Artifact, adapter: Adapter, form: str) -> str:
    recipe = adapter.format.recipe
    if recipe is None:
        return f"The head is the plugin's own, which defines what the numbers in `{HEAD}` mean."
    words = "(tokens, labels); a word's row is that of its first token"
    shape = words if adapter.spec.level == "token" else "(labels,)"
    lines = _ONNX if form == "onnx" else _torch_lines(artifact, adapter, form)
    return f"For a `text` of your own:\n\n```python\n{lines.replace('SHAPE', shape)}```"


def _torch_lines(artifact: Artifact, adapter: Adapter, form: str) -> str:
    recipe = str(adapter.format.recipe)
    kind, plain = MODELS[adapter.format.stored_type], recipe in _ROWS
    config = "" if plain else ", config=AutoConfig.from_pretrained(folder)"
    names = [kind, "AutoTokenizer", *(["AutoConfig"] if form == "peft" and not plain else [])]
    imports = [*(["from peft import PeftModel"] if form == "peft" else [])]
    imports += ["from safetensors.torch import load_file"] if plain else []
    imports += [f"from transformers import {', '.join(sorted(names))}"]
    base = artifact.manifest.backbone
    pin = "" if base.revision is None else f", revision={quoted(base.revision)}"
    if form == "peft":
        load = _PEFT + (
            f"model = {kind}.from_pretrained(basePIN{config})\n"
            "model = PeftModel.from_pretrained(model, folder).eval()\n"
        )
    else:
        load = (
            "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
            f"model = {kind}.from_pretrained(folder).eval()\n"
        )
    load = load.replace("BASE", quoted(base.name)).replace("PIN", pin)
    rows = _STATES.replace("ROWS", _ROWS[recipe]) if plain else _LOGITS
    return _BASE.replace("IMPORTS", "\n".join(imports)) + load + rows
