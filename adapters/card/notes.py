"""What a person has written into a card: it stands between two comments, and survives the next card."""

from __future__ import annotations

import re

_HINT = "your own text, up to the closing line; it survives the next push"
_BEGIN = re.compile(r"^<!-- onetrunk:notes:begin\b[^\r\n]*-->[ \t]*(\r?\n)", re.MULTILINE)
_END = re.compile(r"^<!-- onetrunk:notes:end -->[ \t]*\r?$", re.MULTILINE)


def notes_section(text: str | None) -> str:
    """Return the section that holds `text` as it is. It must be the last one: text may leave a fence open."""
    return f"## Notes\n\n<!-- onetrunk:notes:begin ({_HINT}) -->\n{text or ''}\n<!-- onetrunk:notes:end -->"


def user_text(card: str) -> str | None:
    """Return what a person has written into `card`, byte for byte; None where there is nothing.

    All between the first opening comment and the last closing one, so that text may hold either; without a closing
    one, all to the end.
    """
    begin = _BEGIN.search(card)
    if begin is None:
        return None
    rest = card[begin.end() :]
    ends = [match.start() for match in _END.finditer(rest)]
    text = rest[: ends[-1]] if ends else rest
    return text.removesuffix(begin[1]) or None
