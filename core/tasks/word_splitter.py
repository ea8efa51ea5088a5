"""Word splitter: plain text to word spans, similar to the words in CoNLL files.

White space always separates words. Other rules:

- Each character of a script without spaces (Han, kana, bopomofo) is a word. So are an emoji with its modifiers, a
  joined emoji sequence, a flag, an ellipsis, a long dash, and a character of CJK punctuation.
- In a run of other characters, each punctuation mark or symbol at the beginning and at the end is a word. Those
  inside are kept, so URLs, e-mail addresses, `don't`, `3.5`, `and/or` and `twenty-one` are one word each.
- `#tag`, `@user`, `C++`, `C#`, `U.S.` (single letters with full stops) and the last `/` of a URL are not split.
- A possessive `'s` is a separate word, so that an entity does not end with it. A lone `'ll` is one word.

Limits: the full stop of `Mr.` is split off; Thai, Lao, Khmer and Burmese are split at spaces only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from unicodedata import category

from onetrunk.core.tasks.spec import Span

_SPACELESS = (
    r"\u2e80-\u2fff\u3005-\u3007\u3021-\u312f\u3190-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    r"\U00020000-\U0003ffff"
)
_ON_SPACELESS = r"\u3099\u309a\ufe00-\ufe0f\U000e0100-\U000e01ef"
_EMOJI = r"\u2300-\u23ff\u25a0-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
_ON_EMOJI = r"\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_FLAG_HALF = r"[\U0001f1e6-\U0001f1ff]"
_ALWAYS_APART = (
    r"\u2014\u2015\u2026\u3001-\u3004\u3008-\u3020\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)

_PIECE = re.compile(
    rf"(?P<run>[^\s{_SPACELESS}{_EMOJI}{_ALWAYS_APART}]+)"
    rf"|[{_SPACELESS}][{_ON_SPACELESS}]*"
    rf"|{_FLAG_HALF}{{2}}"
    rf"|[{_EMOJI}][{_ON_EMOJI}]*(?:\u200d[{_EMOJI}][{_ON_EMOJI}]*)*"
    rf"|[{_ALWAYS_APART}]"
)
_TAG_START = re.compile(r"[#@]\w")
# Each pattern below looks at a fixed number of characters, so that splitting takes linear time.
_SUFFIXED_NAME = re.compile(r"[^\W\d_](?:\+\+?|#)$")
_ABBREVIATION = re.compile(r"(?:^|[\W\d_])(?:[^\W\d_]\.){2}$")
_CLITIC = re.compile(r"['’](?:s|d|m|re|ve|ll)", re.IGNORECASE)
_POSSESSIVE = re.compile(r"\w(['’][sS])$")


def split_words(text: str) -> tuple[Span, ...]:
    """Return the character spans of the words of `text`, in order, in linear time.

    The spans are not empty, do not overlap, and cover every character that is not white space.
    """
    return tuple(span for piece in _PIECE.finditer(text) for span in _words_of(piece))


def _words_of(piece: re.Match[str]) -> Iterator[Span]:
    start, end = piece.span()
    if piece.lastgroup != "run":
        yield start, end
        return
    first, last = _core(piece.group())
    yield from ((i, i + 1) for i in range(start, start + first))
    if first < last:
        possessive = _POSSESSIVE.search(piece.group()[max(0, last - 3) : last])
        cut = last - 2 if possessive else last
        yield start + first, start + cut
        if possessive:
            yield start + cut, start + last
    yield from ((i, i + 1) for i in range(start + last, end))


def _core(run: str) -> Span:
    """Return the span of the word within `run`, without the punctuation at both ends."""
    first, last = 0, len(run)
    if _CLITIC.fullmatch(run):
        return first, last
    while first < last and _is_edge(run[first]) and not _TAG_START.match(run, first):
        first += 1
    is_url = "://" in run
    while first < last and _is_edge(run[last - 1]) and not _keeps_last(run, first, last, is_url):
        last -= 1
    return first, last


def _is_edge(character: str) -> bool:
    return character != "_" and category(character)[0] in "PS"


def _keeps_last(run: str, first: int, last: int, is_url: bool) -> bool:
    """Return whether the punctuation before `last` belongs to the word that starts at `first`."""
    if run[last - 1] == "/":
        return is_url
    tail = run[max(first, last - 5) : last]
    return bool(_SUFFIXED_NAME.search(tail) or _ABBREVIATION.search(tail))
