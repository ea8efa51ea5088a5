"""The user's own section of a card: text between two comments, which is copied to the next card."""

from __future__ import annotations

import re

_HINT = "write your own text between these two lines; the next push keeps it"
_BEGIN = re.compile(r"^<!-- onetrunk:notes:begin\b[^\r\n]*-->[ \t]*(\r?\n)", re.MULTILINE)
_END = re.compile(r"^<!-- onetrunk:notes:end -->[ \t]*\r?$", re.MULTILINE)


def notes_section(text: str | None) -> str:
    """Return the section with `text` unchanged. It must be the last one: the text may leave a code fence open."""
    return f"## Notes\n\n<!-- onetrunk:notes:begin ({_HINT}) -->\n{text or ''}\n<!-- onetrunk:notes:end -->"


def user_text(card: str) -> str | None:
    """Return the user's text in `card`, unchanged; None if there is none.

    The text is everything between the first opening comment and the last closing comment, so it may contain either;
    without a closing comment, everything to the end.
    """
    begin = _BEGIN.search(card)
    if begin is None:
        return None
    rest = card[begin.end() :]
    ends = [match.start() for match in _END.finditer(rest)]
    text = rest[: ends[-1]] if ends else rest
    return text.removesuffix(begin[1]) or None
