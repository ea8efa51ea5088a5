"""The model card: what an artifact is and how to use it, for people, with Hub metadata on top."""

from __future__ import annotations

import json

from onetrunk.adapters.manifest import Manifest

_IN_MODEL = """\
import json, torch
from peft import PeftModel
from transformers import AutoModelForKIND, AutoTokenizer

base, adapter = {base}, "."  # this folder
labels = json.load(open(f"{{adapter}}/task.json"))["labels"]
tokenizer = AutoTokenizer.from_pretrained(base{pin})
names = dict(enumerate(labels))
model = AutoModelForKIND.from_pretrained(base{pin}, num_labels=len(labels), id2label=names)
model = PeftModel.from_pretrained(model, adapter).eval()
with torch.no_grad():
    logits = model(**tokenizer(text, return_tensors="pt")).logits[0]  # SHAPE
"""

_IN_FILE = """\
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

base, adapter = {base}, "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(base{pin})
model = PeftModel.from_pretrained(AutoModel.from_pretrained(base{pin}), adapter).eval()
head = load_file(f"{{adapter}}/head.safetensors")
with torch.no_grad():
    hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]  # (tokens, width)
    logits = ROWS @ head["classifier.weight"].T + head["classifier.bias"]  # SHAPE
"""


def _in_model(kind: str, shape: str) -> str:
    """Return the lines for a head that a model of transformers has."""
    return _IN_MODEL.replace("KIND", kind).replace("SHAPE", shape)


def _in_file(rows: str, shape: str) -> str:
    """Return the lines for a linear head in a file of its own, on these rows of the hidden states."""
    return _IN_FILE.replace("ROWS", rows).replace("SHAPE", shape)


RECIPES = {
    "token": _in_model("TokenClassification", "(tokens, labels)"),
    "cls": _in_model("SequenceClassification", "(labels,)"),
    "mean": _in_file("hidden.mean(0)", "(labels,)"),
    "first": _in_file("hidden[0]", "(labels,)"),
    "words": _in_file("hidden", "(tokens, labels)"),
}
"""Lines of plain transformers and PEFT that give the logits, by the form of the head."""

CALIBRATED_ON_DEV = "The rows of dev also calibrated the decoder: figures on dev that depend on it flatter."
"""What is said beside the results of an adapter whose decoder has settings."""

_DROPPED_WORDS = (
    "A word of which the tokenizer leaves nothing (control characters alone, say) is read by OneTrunk as the "
    "unknown token; these lines leave it out."
)


def render_card(name: str, manifest: Manifest, recipe: str | None, summary: str) -> str:
    """Return the README.md of an artifact.

    name: of the adapter in the store; recipe: a key of `RECIPES`, None for a head of a plugin's own; summary: the
    task's line.
    """
    base = manifest.backbone
    sections = [
        _metadata(manifest),
        f"# {name}\n\n{summary}",
        f"A LoRA adapter with its head for `{base.name}`, made by OneTrunk {manifest.onetrunk}.",
        f"Labels ({len(manifest.labels)}): {', '.join(f'`{_code(label)}`' for label in manifest.labels)}",
        f"## Results\n\n{_results(manifest)}",
        "## Use\n\nWith OneTrunk, from the store:\n\n"
        f'```bash\nadapters predict {name} "some text"\n```\n\n' + _plain_use(manifest, recipe),
        f"## Training\n\n{_training(manifest)}",
    ]
    return "\n\n".join(sections) + "\n"


def _metadata(manifest: Manifest) -> str:
    pipeline = "token-classification" if manifest.level == "token" else "text-classification"
    lines = ["library_name: peft", f"base_model: {json.dumps(manifest.backbone.name)}"]
    lines += ["base_model_relation: adapter", f"pipeline_tag: {pipeline}"]
    lines += ["tags:", *(f"- {json.dumps(tag)}" for tag in ("onetrunk", "lora", manifest.task))]
    return "\n".join(["---", *lines, "---"])


def _code(label: str) -> str:
    return label.replace("`", "'").replace("\n", " ")


def _results(manifest: Manifest) -> str:
    splits = list(manifest.metrics)
    figures = [
        {key: value for key, value in manifest.metrics[split].items() if isinstance(value, int | float)}
        for split in splits
    ]
    rows = [f"| | {' | '.join(splits)} |", f"|---|{'---|' * len(splits)}"]
    keys = dict.fromkeys(key for own in figures for key in own)
    rows += [f"| {key} | {' | '.join(_figure(own.get(key)) for own in figures)} |" for key in keys]
    if manifest.settings and "dev" in splits:
        rows += ["", CALIBRATED_ON_DEV]
    return "\n".join(rows)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _plain_use(manifest: Manifest, recipe: str | None) -> str:
    if recipe is None:
        return "Its head is the plugin's own (`head.safetensors`); the encoder loads as a plain PEFT adapter."
    base = manifest.backbone
    pin = "" if base.revision is None else f", revision={json.dumps(base.revision)}"
    code = RECIPES[recipe].format(base=json.dumps(base.name), pin=pin)
    lines = f"With plain transformers and PEFT, for a `text` of your own:\n\n```python\n{code}```"
    return f"{lines}\n\n{_DROPPED_WORDS}" if manifest.level == "token" else lines


def _training(manifest: Manifest) -> str:
    share = 100 * manifest.parameters.trained / max(1, manifest.parameters.backbone)
    lines = [f"- parameters trained: {manifest.parameters.trained:,} ({share:.2f} % of the backbone's)"]
    for split, data in manifest.data.items():
        rows = "1 row" if data.rows == 1 else f"{data.rows:,} rows"
        lines.append(f"- {split}: {rows}, sha256 `{data.sha256[:16]}…`")
    if manifest.parent:
        lines.append(f"- started from {manifest.parent}")
    settings = json.dumps(manifest.training, sort_keys=True, indent=2)
    return "\n".join(lines) + f"\n\n```json\n{settings}\n```"
