"""Renders the model card: a Markdown text with metadata, results, usage, training, limitations and notes.

The section of notes belongs to the user: text between two comments, which is copied to the next card.
"""

from __future__ import annotations

import json
import re
import shlex

from onetrunk.adapters.card.markup import code, on_one_line, plain
from onetrunk.adapters.card.metadata import CardFacts, metadata
from onetrunk.adapters.card.results import in_order, results
from onetrunk.adapters.card.samples import CodeSample
from onetrunk.adapters.format.artifact import PICTURE
from onetrunk.adapters.format.manifest import SPLITS
from onetrunk.adapters.format.strict_json import JSONObject

_MOST_LABELS = 300
_OFFSETS = (
    "Offsets in predictions (`start`, `end`) count Unicode characters of the text, not bytes or UTF-16 code units; "
    "`end` is exclusive."
)
_DROPPED_WORDS = (
    "If the tokenizer drops a whole word, such as a word of control characters, OneTrunk reads the unknown token "
    "in place of the word. The code above skips the word."
)
_HINT = "write your own text between these two lines; the next push keeps it"
_BEGIN = re.compile(r"^<!-- onetrunk:notes:begin\b[^\r\n]*-->[ \t]*(\r?\n)", re.MULTILINE)
_END = re.compile(r"^<!-- onetrunk:notes:end -->[ \t]*\r?$", re.MULTILINE)


def render_card(facts: CardFacts) -> str:
    """Return the README.md of an artifact. Equal facts give equal text."""
    manifest = facts.manifest
    kind = "A LoRA adapter with its task head" if manifest.method == "lora" else "A task head without LoRA"
    made = "trained with PEFT and imported by" if "imported" in manifest.training else "trained with"
    labels = ", ".join(map(code, manifest.labels[:_MOST_LABELS]))
    more = ", …; see `task.json` for all" if len(manifest.labels) > _MOST_LABELS else ""
    sections = [
        metadata(facts),
        f"# {plain(facts.name)}\n\n{plain(facts.summary)}",
        f"{kind} for the backbone {code(manifest.backbone.name)}, {made} OneTrunk {plain(manifest.onetrunk)}.",
        f"Labels ({len(manifest.labels)}): {labels}{more}",
        f"## Results\n\n{results(manifest)}",
        f"## How to use\n\n{_usage(facts)}",
        f"## Training\n\n{_training(facts)}",
        f"## Limitations\n\n{_limitations(facts)}",
        notes_section(facts.notes),
    ]
    return "\n\n".join(sections) + "\n"


def notes_section(text: str | None) -> str:
    """Return the section with `text` unchanged. It must be the last one, because `text` may open a code fence."""
    return f"## Notes\n\n<!-- onetrunk:notes:begin ({_HINT}) -->\n{text or ''}\n<!-- onetrunk:notes:end -->"


def user_text(card: str) -> str | None:
    """Return the user's text in the notes of `card`, unchanged; None if there is none.

    The text begins after the first opening comment. It ends before the last closing comment, so that it may contain
    such comments; without a closing comment, at the end of the card.
    """
    begin = _BEGIN.search(card)
    if begin is None:
        return None
    following = card[begin.end() :]
    ends = [match.start() for match in _END.finditer(following)]
    text = following[: ends[-1]] if ends else following
    return text.removesuffix(begin[1]) or None


def _usage(facts: CardFacts) -> str:
    """Return how to use the adapter with OneTrunk, with the server, and without OneTrunk."""
    name = shlex.quote(facts.repo or facts.name)
    commands = [f'adapters predict {name} "some text"']
    if facts.repo is not None:
        commands.append(f"adapters pull {name}  # keeps a copy in the local store")
    served = facts.name if facts.repo is None else f"{facts.name}={facts.repo}"
    body = json.dumps({"inputs": [{"text": "some text", "adapters": [facts.name]}]})
    serving = _shell(
        f"adapters serve {shlex.quote(served)}",
        f"curl http://127.0.0.1:8000/v1/predict -H 'Content-Type: application/json' -d {shlex.quote(body)}",
    )
    parts = [
        f"With OneTrunk:\n\n{_shell(*commands)}",
        f"With OneTrunk's server, which can serve many adapters on one backbone:\n\n{serving}",
    ]
    if facts.manifest.level == "token":
        parts.append(_OFFSETS)
    recipe, backbone = facts.manifest.recipe, facts.manifest.backbone
    if recipe is None:
        parts.append(
            "Without OneTrunk, the encoder loads as a plain PEFT adapter. Only the task's plugin defines how the "
            "head computes."
        )
    else:
        sample = CodeSample(recipe, backbone, repo=facts.repo).code()
        parts.append(f"With transformers and PEFT alone, for a string `text`:\n\n```python\n{sample}```")
        if facts.manifest.level == "token":
            parts.append(_DROPPED_WORDS)
    return "\n\n".join(parts)


def _shell(*commands: str) -> str:
    return "\n".join(["```bash", *map(on_one_line, commands), "```"])


def _training(facts: CardFacts) -> str:
    manifest = facts.manifest
    share = 100 * manifest.parameters.trained / max(1, manifest.parameters.backbone)
    lines = [f"- trained parameters: {manifest.parameters.trained:,} ({share:.2f} % of the backbone's)"]
    if facts.weight_bytes is not None:
        lines.append(f"- weights: {facts.weight_bytes / 1e6:,.1f} MB ({facts.weight_bytes:,} bytes)")
    for split in in_order(manifest.data, SPLITS):
        data = manifest.data[split]
        lines.append(f"- {split} data: {_rows(data.rows)}, sha256 `{data.sha256[:16]}…`")
        lines += [f"  - {plain(note)}" for note in data.notes]
    if manifest.parent:
        lines.append(f"- continues the training of {code(manifest.parent)}")
    parts = ["\n".join(lines)]
    if facts.has_picture:
        parts.append(f"![Training loss and dev metric by epoch]({PICTURE})")
    parts += ["Settings:", _json(manifest.training)]
    if manifest.settings:
        parts += ["Decoder settings, calibrated on dev:", _json(manifest.settings)]
    return "\n\n".join(parts)


def _limitations(facts: CardFacts) -> str:
    manifest = facts.manifest
    languages, data = ", ".join(map(code, facts.metadata.languages)), manifest.data.get("train")
    rows = "an unknown number of rows" if data is None else _rows(data.rows)
    language = f"languages: {languages}" if languages else "language not stated"
    lines = [
        f"Trained on {rows} ({language}). Not evaluated on other kinds of text or other languages.",
        "The set of labels is fixed. A new label needs new training.",
    ]
    if manifest.level == "token":
        lines.append(
            "Offsets count Unicode characters (code points), and `end` is exclusive. Predictions begin and end at "
            "words of OneTrunk, or at words that are given."
        )
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


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _json(value: JSONObject) -> str:
    text = json.dumps(value, sort_keys=True, indent=2)
    text = text.replace("\x7f", "\\u007f")  # json does not escape this control character
    return f"```json\n{text}\n```"
