"""The card as a whole."""

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
    """Return the README.md of an artifact, the same bytes for equal facts."""
    manifest = facts.manifest
    sections = [
        metadata(facts),
        f"# {plain(facts.name)}\n\n{plain(facts.summary)}",
        f"A LoRA adapter with its head for {code(manifest.backbone.name)}, {_made(manifest)} OneTrunk "
        f"{plain(manifest.onetrunk)}.",
        _labels(manifest),
        f"## Results\n\n{results(manifest)}",
        f"## Use\n\n{usage(facts)}",
        f"## Training\n\n{_training(facts)}",
        f"## Limits\n\n{_limits(facts)}",
        notes_section(facts.notes),
    ]
    return "\n\n".join(sections) + "\n"


def _made(manifest: Manifest) -> str:
    return "made by plain PEFT and taken in by" if "imported" in manifest.training else "made by"


def _labels(manifest: Manifest) -> str:
    labels = manifest.labels
    more = ", …; `task.json` has all of them" if len(labels) > _MOST_LABELS else ""
    return f"Labels ({len(labels)}): {', '.join(map(code, labels[:_MOST_LABELS]))}{more}"


def _training(facts: CardFacts) -> str:
    manifest = facts.manifest
    share = 100 * manifest.parameters.trained / max(1, manifest.parameters.backbone)
    lines = [f"- parameters trained: {manifest.parameters.trained:,} ({share:.2f} % of the backbone's)"]
    if facts.weight_bytes is not None:
        lines.append(
            f"- size of the weights: {facts.weight_bytes / 1e6:,.1f} MB ({facts.weight_bytes:,} bytes)"
        )
    for split in in_order(manifest.data, SPLITS):
        data = manifest.data[split]
        lines.append(f"- {split}: {_rows(data.rows)}, sha256 `{data.sha256[:16]}…`")
    if manifest.parent:
        lines.append(f"- started from {code(manifest.parent)}")
    parts = ["\n".join(lines), *([f"![Loss and dev figures by epoch]({PICTURE})"] if facts.picture else [])]
    parts.append(_json(manifest.training))
    if manifest.settings:
        parts += ["The decoder, as calibrated on dev:", _json(manifest.settings)]
    return "\n\n".join(parts)


def _limits(facts: CardFacts) -> str:
    manifest = facts.manifest
    lines = [_trained_on(facts), "The labels are fixed: another one needs another training."]
    if not manifest.metrics:
        lines.append("How good it is was not measured: there are no figures on held-out data.")
    elif "test" not in manifest.metrics:
        lines.append(
            "There are no figures of a test split: dev picked the best epoch, so that its figures flatter."
        )
    if manifest.settings:
        lines.append("What the decoder was calibrated to holds for texts like those of dev.")
    lines += [
        "A text with more tokens than the backbone has positions is read by OneTrunk in overlapping windows, "
        "none of which sees the whole; plain transformers needs it cut.",
        "The backbone's own errors and its licence come along.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _trained_on(facts: CardFacts) -> str:
    languages, data = ", ".join(map(code, facts.languages)), facts.manifest.data.get("train")
    rows = "rows that nobody counted" if data is None else _rows(data.rows)
    told = f"in {languages}" if languages else "in a language that nobody stated"
    return f"Trained on {rows} {told}; texts of another kind or language were not measured."


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _json(value: JSONObject) -> str:
    text = json.dumps(value, sort_keys=True, indent=2).replace(
        "\x7f", "\\u007f"
    )  # JSON lets that one through
    return f"```json\n{text}\n```"
