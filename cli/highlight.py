"""Print predictions for people: texts with their entities marked, labels with a bar for the score.

Colours are used on a terminal, unless NO_COLOR is set. The output is otherwise plain text, such as
`[Ada Lovelace PER] loved [London LOC].`
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from onetrunk.cli.output import printable, results, show

if TYPE_CHECKING:
    from onetrunk.core.tasks.prediction import Prediction

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")
_BAR_CELLS = 10
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_WIDEST_LABEL = 24
"""Maximum width of the column of labels, in characters."""
_ALSO_SHOWN = 0.1
"""Minimum score, from 0 to 1, of the other labels that are shown."""


class Highlighter:
    """Prints predictions. Each label has the same colour in all of them."""

    def __init__(self) -> None:
        self._console = Console(file=results())
        plain = self._console.no_color or self._console.is_dumb_terminal
        self._colour = self._console.is_terminal and not plain
        self._colours: dict[str, str] = {}

    def show(self, predictions: Sequence[Prediction]) -> None:
        """Print the predictions of all adapters for one text: one line for one adapter, a block for several."""
        text, lines = predictions[0].text, [self._answer(each.text, each.result) for each in predictions]
        if len(predictions) > 1:
            widest = max(len(each.adapter) for each in predictions)
            names = [f"  {each.adapter:{widest}}  " for each in predictions]
            rows = [Text(name).append(line) for name, line in zip(names, lines, strict=True)]
            lines = [Text(printable(text)), *rows, Text()]
        elif "entities" not in predictions[0].result:
            lines[0].append(f"  {printable(text)}")
        for line in lines:
            show(self._console, line, soft_wrap=True)

    def _answer(self, text: str, result: Mapping[str, Any]) -> Text:
        if isinstance(result.get("entities"), list):
            return self.mark(text, result["entities"])
        if isinstance(result.get("scores"), Mapping) and isinstance(result.get("label"), str):
            return self._label(result["label"], result["scores"])
        return Text(printable(json.dumps(result, ensure_ascii=False)))

    def mark(self, text: str, entities: Iterable[Mapping[str, Any]]) -> Text:
        """Return the text with its entities marked. An entity that overlaps an earlier one is listed at the end."""
        line, at, overlapping = Text(), 0, []
        for entity in sorted(entities, key=lambda each: (each["start"], -each["end"])):
            if entity["start"] < at:
                overlapping.append(entity)
                continue
            line.append(printable(text[at : entity["start"]])).append(self._mark_of(text, entity))
            at = entity["end"]
        line.append(printable(text[at:]))
        for entity in overlapping:
            line.append("  ").append(self._mark_of(text, entity))
        return line

    def _mark_of(self, text: str, entity: Mapping[str, Any]) -> Text:
        inside, label = printable(text[entity["start"] : entity["end"]]), printable(str(entity["label"]))
        if not self._colour:
            return Text(f"[{inside} {label}]")
        return Text.assemble(
            (f"{inside} ", self._style(label, "bold ")), (f" {label} ", self._style(label, "reverse "))
        )

    def _label(self, label: str, scores: Mapping[str, float]) -> Text:
        """Return the label with a bar for its score, then at most two other labels."""
        widest = min(_WIDEST_LABEL, max(map(len, scores), default=0))
        line = Text().append(f"{printable(label):{widest}}", self._style(label, "bold "))
        score = scores.get(label)  # None for an out-of-scope label, which has no score
        if self._colour:
            line.append(f" {_bar(score or 0.0)}", self._style(label))
        line.append("      " if score is None else f"  {score:.2f}")
        others = [(name, each) for name, each in scores.items() if name != label and each >= _ALSO_SHOWN]
        for name, each in sorted(others, key=lambda pair: -pair[1])[:2]:
            line.append(f"  {printable(name)} {each:.2f}", "dim" if self._colour else "")
        return line

    def _style(self, label: str, also: str = "") -> str:
        if not self._colour:
            return ""
        return also + self._colours.setdefault(label, _COLOURS[len(self._colours) % len(_COLOURS)])


def _bar(share: float) -> str:
    """Return a bar of `_BAR_CELLS` characters, of which `share` (0 to 1) is filled, in eighths of a character."""
    full, eighths = divmod(round(share * _BAR_CELLS * 8), 8)
    bar = "█" * full + (_EIGHTHS[eighths] if eighths else "")
    return f"{bar:{_BAR_CELLS}}"
