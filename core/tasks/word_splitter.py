"""Word splitter: plain text to word spans. Training, evaluation and prediction use the same borders.

The borders are fine, so that an entity can begin and end at them. White space always separates words. Other rules:

- Each character of a script without spaces (Han, kana, bopomofo, Thai, Lao, Khmer, Burmese) and each syllable of
  Hangul, whose particles follow a name without a space, is a word. If the tokenizer has a longer token there, the
  token becomes one word (`TaskSpec.flexible_words`). So are an emoji with its modifiers, a joined emoji sequence, a
  flag, an ellipsis, a long dash, and a character of CJK punctuation.
- In a run of other characters, each punctuation mark or symbol at the beginning and at the end is a word.
- Inside a run, hyphens, slashes, brackets, quotation marks, currency signs and `;!?|=*~` are words, and so are `,`
  and `:` that do not stand between digits: `Köln/Kiel`, `New-York-based`, `AHU-G1-V-1`, `US$5`. `+` is a word
  between letters or digits, and a full stop between a small letter and a capitalized word: `end.Next`.
- Other marks inside a run are kept: `don't`, `3.5`, `10:30`, `AT&T`. URLs and e-mail addresses are one word each.
- An elision is split off: `l'Italie`, `d’Arc`, `dell'Arte`, `qu'il`.
- `#tag`, `@user`, `C++`, `C#`, `U.S.` (single letters with full stops) and the last `/` of a URL are not split.
- A possessive `'s` is a separate word, so that an entity does not end with it. A lone `'ll` is one word.

Limits: the full stop of `Mr.` is split off; `camelCase` and `5km` are one word each.

`split_words_1` has the rule of adapters that recorded no word splitter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from unicodedata import category

from onetrunk.core.tasks.records import Span

_HAN = (
    r"\u2e80-\u2fff\u3005-\u3007\u3021-\u312f\u3190-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    r"\U00020000-\U0003ffff"
)
_THAI = r"\u0e01-\u0e3a\u0e40-\u0e4e"
_LAO = r"\u0e81-\u0ece\u0edc-\u0edf"
_BURMESE = r"\u1000-\u103f\u1050-\u108f\u109a-\u109f\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"
_KHMER = r"\u1780-\u17d3\u17d7\u17dc\u17dd"
SPACELESS = _HAN + _THAI + _LAO + _BURMESE + _KHMER
"""The letters of scripts without spaces between words, as the content of a character class."""
_MARKS = (
    r"\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece"
    r"\u102b-\u103e\u1056-\u1059\u105e-\u1060\u1062-\u1064\u1067-\u106d\u1071-\u1074\u1082-\u108d\u108f"
    r"\u109a-\u109d\u17b4-\u17d3\u17dd"
)
"""Vowel signs and other marks of these scripts: they belong to the letter before."""
_HANGUL = r"\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb"
_ON_HAN = r"\u3099\u309a\ufe00-\ufe0f\U000e0100-\U000e01ef"
_EMOJI = r"\u2300-\u23ff\u25a0-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
_ON_EMOJI = r"\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_FLAG_HALF = r"[\U0001f1e6-\U0001f1ff]"
_ALWAYS_APART = (
    r"\u2014\u2015\u2026\u3001-\u3004\u3008-\u3020\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)


def _pieces(own_letters: str, patterns: str) -> re.Pattern[str]:
    """Return the pattern of a piece: `patterns` are for the letters `own_letters`, the rest for all others."""
    return re.compile(
        rf"(?P<run>[^\s{own_letters}{_EMOJI}{_ALWAYS_APART}]+)"
        rf"|{patterns}"
        rf"|{_FLAG_HALF}{{2}}"
        rf"|[{_EMOJI}][{_ON_EMOJI}]*(?:\u200d[{_EMOJI}][{_ON_EMOJI}]*)*"
        rf"|[{_ALWAYS_APART}]"
    )


_ONE_HAN = rf"[{_HAN}][{_ON_HAN}]*"
_PIECE_1 = _pieces(_HAN, _ONE_HAN)
_PIECE = _pieces(
    SPACELESS + _HANGUL,
    rf"{_ONE_HAN}"
    rf"|[{_THAI}{_LAO}{_BURMESE}{_KHMER}](?:\u17d2[{_KHMER}]|\u1039[{_BURMESE}]|[{_MARKS}])*"
    r"|[\u1100-\u115f\ua960-\ua97c]+[\u1160-\u11a7\ud7b0-\ud7c6]*[\u11a8-\u11ff\ud7cb-\ud7fb]*"
    rf"|[{_HANGUL}][\u11a8-\u11ff]*",
)
_TAG_START = re.compile(r"[#@]\w")
# Each pattern below looks at a fixed number of characters, so that splitting takes linear time.
_SUFFIXED_NAME = re.compile(r"[^\W\d_](?:\+\+?|#)$")
_ABBREVIATION = re.compile(r"(?:^|[\W\d_])(?:[^\W\d_]\.){2}$")
_CLITIC = re.compile(r"['’](?:s|d|m|re|ve|ll)", re.IGNORECASE)
_POSSESSIVE = re.compile(r"\w(['’][sS])$")
_ADDRESS = re.compile(r"\W{0,8}(?:www\.|(?:[\w-]+\.)+[a-z]{2,}/)")
_MAIL = re.compile(r"\w@\w")
_CUT = re.compile(
    r"(?P<mark>[-\u2010-\u2013/\\|=*~<>(){}\[\]«»\"“”„;!?$\u00a2-\u00a5\u20a0-\u20bf]"
    r"|(?<!\d)[,:]|[,:](?!\d)"
    r"|(?<=[^\W_])\+(?=[^\W_]))"
    r"|(?P<stop>(?<=[^\W\d_])\.(?=[^\W\d_]{2}))"
    r"|(?P<elision>(?<![\w'’])(?:[^\W\d_]|(?:jus|lors|puis|quel)?qu|un|gl|[^\W\d_]{1,6}ll)['’]"
    r"(?=[aeiouyhàâäáæéèêëîïíìôöóòûüúùœ][^\W\d_]))",
    re.IGNORECASE,
)


def split_words(text: str) -> tuple[Span, ...]:
    """Return the character spans of the words of `text`, in order, in linear time.

    The spans are not empty, do not overlap, and cover every character that is not white space.
    """
    return tuple(span for piece in _PIECE.finditer(text) for span in _words_of(piece, _cut))


def split_words_1(text: str) -> tuple[Span, ...]:
    """Return the words by the first rule: a run, and text in Thai or Hangul, is split at its edges only."""
    return tuple(span for piece in _PIECE_1.finditer(text) for span in _words_of(piece, _whole))


def _words_of(piece: re.Match[str], cut: Callable[[str], Iterator[Span]]) -> Iterator[Span]:
    start, end = piece.span()
    if piece.lastgroup != "run":
        yield start, end
        return
    run = piece.group()
    for first, last in cut(run):
        for begin, stop in _without_edges(run[first:last]):
            yield start + first + begin, start + first + stop


def _whole(run: str) -> Iterator[Span]:
    yield 0, len(run)


def _cut(run: str) -> Iterator[Span]:
    """Yield the parts of a run: marks inside it, elisions, and what is between them."""
    if "://" in run or _MAIL.search(run) or _ADDRESS.match(run):
        yield 0, len(run)
        return
    at = 0
    for found in _CUT.finditer(run):
        start, end = found.span()
        if found.lastgroup == "stop" and not _ends_sentence(run, start):
            continue
        if at < start:
            yield at, start
        yield start, end
        at = end
    if at < len(run):
        yield at, len(run)


def _ends_sentence(run: str, stop: int) -> bool:
    """Return whether the full stop at `stop` stands between a small letter and a capitalized word."""
    return run[stop - 1].islower() and run[stop + 1].isupper() and run[stop + 2].islower()


def _without_edges(run: str) -> Iterator[Span]:
    """Yield the words of a run, or of a part of it: the marks at both ends, and what is between them."""
    first, last = _core(run)
    yield from ((i, i + 1) for i in range(first))
    if first < last:
        possessive = _POSSESSIVE.search(run[max(0, last - 3) : last])
        cut = last - 2 if possessive else last
        yield first, cut
        if possessive:
            yield cut, last
    yield from ((i, i + 1) for i in range(last, len(run)))


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
