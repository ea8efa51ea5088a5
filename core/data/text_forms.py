"""Comparable forms of texts and labels.

Labels are NFC from reading on (Unicode's composed form), so that "é" is one label however it was typed. Texts stay
as they are written, because offsets count their characters; the tokenizer composes them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onetrunk.core.tasks import Example, Level
from onetrunk.core.tasks.iob2 import is_tag

LONGEST_LABEL = 1000
"""The most characters of a label."""
LABELS_SHOWN = 20
"""The most labels that a message lists."""

_BETWEEN = re.compile(r"(?<=\w)[\s_\-\u2010-\u2015]+(?=\w)")
_DIGITS = re.compile(r"\d")
_INTEGER = re.compile(r"0*([0-9]+)")
_NUMBERS = dict(zip(("zero", "one", "two", "three", "four", "five"), "012345", strict=True))


def nfc(text: str) -> str:
    """Return `text` with composed characters (NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def text_key(text: str) -> str:
    """Return a string that is equal for texts that differ in white space and Unicode form only."""
    return " ".join(nfc(text).split())


def text_groups(examples: Sequence[Example]) -> dict[str, list[int]]:
    """Return the indices of the examples with the same text (see `text_key`), by text."""
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(text_key(example.text), []).append(index)
    return groups


def label_key(label: str) -> str:
    """Return a string that is equal for labels that look alike.

    They differ in Unicode form (NFKC), case, invisible characters, and white space, hyphens or underscores between
    words (not between digits), or one is the English word for the number that the other one is. Integers may also
    differ in zeros at the beginning.
    """
    plain = unicodedata.normalize("NFKC", label).casefold()
    plain = "".join(sign for sign in plain if unicodedata.category(sign) != "Cf").strip()
    joined = _BETWEEN.sub(_joint, plain)
    integer = _INTEGER.fullmatch(joined)
    return integer[1] if integer else _NUMBERS.get(joined, joined)


def _joint(match: re.Match[str]) -> str:
    text, (start, end) = match.string, match.span()
    return "-" if _DIGITS.match(text[start - 1]) and _DIGITS.match(text[end]) else ""


def nfc_target(target: Any) -> Any:
    """Return a target with all strings in NFC. Raises ValueError for a string that is too long to be a label."""
    if isinstance(target, str):
        if len(target) > LONGEST_LABEL:
            raise ValueError(
                f"the label {target[:40]!r}… has {len(target):,} characters; expected at most {LONGEST_LABEL:,}; "
                "is the text in the column of the label?"
            )
        return nfc(target)
    if type(target) in (list, tuple, set, frozenset):
        return type(target)(map(nfc_target, target))
    return target


def label_counts(target: object, level: Level) -> Counter[str]:
    """Return how often each label occurs in a target; of tags, how many entities of each type it has."""
    return Counter(_labels_in(target, level))


def _labels_in(target: object, level: Level) -> Iterator[str]:
    if isinstance(target, str):
        if level == "text" or not is_tag(target):
            yield target
        elif target.startswith("B-"):
            yield target[2:]
    elif isinstance(target, Mapping):
        yield from _labels_in(list(target.values()), level)
    elif isinstance(target, Sequence | set | frozenset):
        for each in target:
            yield from _labels_in(each, level)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 row`, `8 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
