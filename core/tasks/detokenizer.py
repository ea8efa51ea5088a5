"""Joins the words of a tokenized sentence to a text with the spacing of real text, such as `Ada (UK) can't.`

A model then reads the text in training as it will read plain text in use. Without given spaces the same rule holds
for all languages. There is no space

- before closing punctuation, a per cent sign, a run of `.`, `!` and `?`, and after opening punctuation;
- inside a pair of straight quotation marks, at the marks;
- before the English clitics `'s`, `'m`, `'d`, `'re`, `'ve`, `'ll` and `n't`;
- between two words of scripts without spaces (Han, kana, Thai, Lao, Khmer, Burmese).

Limits: a hyphen, a slash, an apostrophe and a currency sign that are words of their own keep their spaces, because
texts of all languages write them in both ways. French writes a space before `:;!?`, which is not restored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from onetrunk.core.tasks.records import Span
from onetrunk.core.tasks.word_splitter import SPACELESS

_CLOSING = re.compile(
    r"[,;:%)\]}”»…،؛؟、。，．：；！？）」』】〉》]|[.!?]+|['’](?:s|m|d|re|ve|ll)|n['’]t", re.IGNORECASE
)
_OPENING = re.compile(r"[(\[{“«„¿¡（「『【〈《]|``")
_QUOTES = ('"', "''", "``")
_NO_SPACES = re.compile(rf"[{SPACELESS}\u3001-\u3020\uff01-\uff65]")


def join_words(words: Sequence[str], spaces: Sequence[bool] | None = None) -> tuple[str, tuple[Span, ...]]:
    """Return the text of `words`, and the span of each word in it.

    spaces: whether a space follows each word; None to decide by the rule of this module.
    Raises ValueError if there is not one value of `spaces` for each word.
    """
    if spaces is None:
        spaces = _spaces(words)
    elif len(spaces) != len(words):
        raise ValueError(
            f"expected one value under 'spaces' per word, found {len(spaces)} for {len(words)} words"
        )
    parts: list[str] = []
    spans: list[Span] = []
    at = 0
    for word, space in zip(words, spaces, strict=True):
        spans.append((at, at + len(word)))
        parts += (word, " ") if space else (word,)
        at += len(word) + bool(space)
    last = spans[-1][1] if spans else 0
    return "".join(parts)[:last], tuple(spans)


def _spaces(words: Sequence[str]) -> list[bool]:
    """Return whether a space follows each word."""
    spaces: list[bool] = []
    paired = sum(word in _QUOTES for word in words) % 2 == 0
    inside = False  # straight quotation marks
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word in _QUOTES:
            inside = not inside
        glued = (
            (paired and inside and (word in _QUOTES or following in _QUOTES))
            or _OPENING.fullmatch(word)
            or _CLOSING.fullmatch(following)
            or (_NO_SPACES.match(word[-1:]) and _NO_SPACES.match(following[:1]))
        )
        spaces.append(not glued)
    return spaces
