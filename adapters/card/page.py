"""The model card as one Markdown text, section by section."""

from __future__ import annotations

import json

from onetrunk.adapters.card.facts import CardFacts
from onetrunk.adapters.card.markup import code, plain
from onetrunk.adapters.card.metadata import metadata
from onetrunk.adapters.card.notes import notes_section
from onetrunk.adapters.card.results import in_order, results
from onetrunk.adapters.card.usage import usage
from onetrunk.adapters.format.artifact import PICTURE
from onetrunk.adapters.format.manifest import SPLITS, Manifest
from onetrunk.adapters.format.strict_json import JSONObject

_MOST_LABELS = 300


def render_card(facts: CardFacts) -> str:
    """Return the README.md of an artifact. Equal facts give equal text."""
    manifest = facts.manifest
    sections = [
        metadata(facts),
        f"# {plain(facts.name)}\n\n{plain(facts.summary)}",
        f"{_kind(manifest)} for the backbone {code(manifest.backbone.name)}, {_origin(manifest)} OneTrunk "
        f"{plain(manifest.onetrunk)}.",
        _labels(manifest),
        f"## Results\n\n{results(manifest)}",
        f"## How to use\n\n{usage(facts)}",
        f"## Training\n\n{_training(facts)}",
        f"## Limitations\n\n{_limitations(facts)}",
        notes_section(facts.notes),
    ]
    return "\n\n".join(sections) + "\n"


def _kind(manifest: Manifest) -> str:
    return "A LoRA adapter with its task head" if manifest.method == "lora" else "A task head without LoRA"


def _origin(manifest: Manifest) -> str:
    return "trained with PEFT and imported by" if "imported" in manifest.training else "trained with"


def _labels(manifest: Manifest) -> str:
    labels = manifest.labels
    more = ", …; see `task.json` for all" if len(labels) > _MOST_LABELS else ""
    return f"Labels ({len(labels)}): {', '.join(map(code, labels[:_MOST_LABELS]))}{more}"


def _training(facts: CardFacts) -> str:
    manifest = facts.manifest
    share = 100 * manifest.parameters.trained / max(1, manifest.parameters.backbone)
    lines = [f"- trained parameters: {manifest.parameters.trained:,} ({share:.2f} % of the backbone's)"]
    if facts.weight_bytes is not None:
        lines.append(f"- weights: {facts.weight_bytes / 1e6:,.1f} MB ({facts.weight_bytes:,} bytes)")
    for split in in_order(manifest.data, SPLITS):
        data = manifest.data[split]
        lines.append(f"- {split} data: {_rows(data.rows)}, sha256 `{data.sha256[:16]}…`")
    if manifest.parent:
        lines.append(f"- continues the training of {code(manifest.parent)}")
    parts = [
        "\n".join(lines),
        *([f"![Training loss and dev metric by epoch]({PICTURE})"] if facts.has_picture else []),
    ]
    parts += ["Settings:", _json(manifest.training)]
    if manifest.settings:
        parts += ["Decoder settings, calibrated on dev:", _json(manifest.settings)]
    return "\n\n".join(parts)


def _limitations(facts: CardFacts) -> str:
    manifest = facts.manifest
    lines = [_trained_on(facts), "The set of labels is fixed. A new label needs new training."]
    if not manifest.metrics:
        lines.append("No evaluation: there are no metrics on held-out data.")
    elif "test" not in manifest.metrics:
        lines.append("No metrics on a test split. Dev metrics are optimistic: dev selected the best epoch.")
    if manifest.settings:
        lines.append("The decoder is calibrated for texts like those of dev.")
    lines += [
        "OneTrunk reads a text that is longer than the backbone's limit in overlapping windows, so no window "
        "covers the whole text. With transformers alone, truncate such a text.",
        "The adapter inherits the backbone's biases and licence.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _trained_on(facts: CardFacts) -> str:
    languages, data = ", ".join(map(code, facts.metadata.languages)), facts.manifest.data.get("train")
    rows = "an unknown number of rows" if data is None else _rows(data.rows)
    language = f"languages: {languages}" if languages else "language not stated"
    return f"Trained on {rows} ({language}). Not evaluated on other kinds of text or other languages."


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _json(value: JSONObject) -> str:
    text = json.dumps(value, sort_keys=True, indent=2)
    text = text.replace("\x7f", "\\u007f")  # json does not escape this control character
    return f"```json\n{text}\n```"
