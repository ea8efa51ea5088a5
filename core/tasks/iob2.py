"""Tags of words in IOB2: conversion from other schemes, and Viterbi decoding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np

TAGS_EXPECTED = (
    "O, B-TYPE or I-TYPE (IOB1, IOB2), or also E-, S- (BIOES), L-, U- (BILOU), M-, W- (BMES, BMEWO)"
)

ONE_TYPE = "ENTITY"
"""The type of entities whose tags are `B`, `I` and `O` alone."""

TagScheme: TypeAlias = Literal["prefixed", "letters", "types"]
"""How a file writes tags: `B-person`; `B` for the only type; `person`, where equal tags in a row are one entity."""

_STARTS = frozenset("BSUW")
_CLOSES = frozenset("ESLUW")
_PREFIXES = frozenset("BIESLUMW")
_OTHER_DIALECT = re.compile("[o_-]|[0-9]+|[BIESLUMWO]?-.*|[BIESLUMW][_:].*|.*[-_:][BIESLUMW]")
"""Not a bare type: an integer, or a tag in a spelling that is not read, such as `B_person` and `person-B`."""


def scheme_of(tag: str) -> TagScheme | None:
    """Return the scheme of one tag; None for `O`. A tag of the letters B, I, E, S, L, U, M, W can also be a type.

    Raises ValueError for what is not a tag.
    """
    if tag == "O":
        return None
    if is_tag(tag):
        return "prefixed"
    if tag in _PREFIXES:
        return "letters"
    if not tag.strip() or _OTHER_DIALECT.fullmatch(tag):
        raise ValueError(f"{tag!r} is not a tag; expected {TAGS_EXPECTED}")
    return "types"


def with_prefixes(tags: Sequence[str], scheme: TagScheme) -> list[str]:
    """Return the tags of one sentence with a prefix and a type, as `to_iob2` reads them."""
    if scheme == "letters":
        return [tag if tag == "O" else f"{tag}-{ONE_TYPE}" for tag in tags]
    if scheme == "types":
        return [tag if tag == "O" else f"I-{tag}" for tag in tags]
    return list(tags)


def is_tag(value: object) -> bool:
    """Return whether `value` is `O` or a tag of IOB, BIOES, BILOU or BMES with a type, such as `B-person`."""
    if not isinstance(value, str):
        return False
    prefix, dash, kind = value.partition("-")
    return value == "O" or (dash == "-" and prefix in _PREFIXES and bool(kind.strip()))


def to_iob2(tags: Sequence[str]) -> list[str]:
    """Convert the tags of one sentence from IOB1, IOB2, BIOES, BILOU, BMES or BMEWO to IOB2.

    The rule is the same for all schemes. `B-`, `S-`, `U-` and `W-` begin an entity. `I-`, `M-`, `E-` and `L-`
    continue the entity of the word before if it has the same type and did not end with `E-`, `L-`, `S-`, `U-` or
    `W-`; otherwise they begin an entity. A word that begins an entity gets `B-`; a word that continues an entity
    gets `I-`.
    Raises ValueError for any other tag.
    """
    result: list[str] = []
    open_type: str | None = None  # the type of the entity that the next word can continue
    for position, tag in enumerate(tags, 1):
        if not is_tag(tag):
            raise ValueError(f"tag {position} is {tag!r}; expected {TAGS_EXPECTED}")
        prefix, _, kind = tag.partition("-")
        if not kind:
            result.append("O")
            open_type = None
            continue
        begins = prefix in _STARTS or kind != open_type
        result.append(f"B-{kind}" if begins else f"I-{kind}")
        open_type = None if prefix in _CLOSES else kind
    return result


def iob_begins(tags: Sequence[str]) -> tuple[int, int]:
    """Return how many entities begin as in IOB1 only, with I-X, and how many as in IOB2 only.

    The second are those that begin with B-X although no entity of the type X stands directly before. Tags with
    other prefixes than B and I count as none, because their scheme is neither.
    """
    if any(tag[:2] not in ("B-", "I-") for tag in tags if tag != "O"):
        return 0, 0
    begins = [tag for before, tag in pairwise(["O", *tags]) if tag != "O" and before[2:] != tag[2:]]
    first = sum(tag.startswith("I-") for tag in begins)
    return first, len(begins) - first


def best_iob2(logits: np.ndarray, labels: Sequence[str]) -> list[str]:
    """Return the most probable valid sequence of tags, one tag per word (Viterbi 1967).

    A sequence is valid if each I-X follows a B-X or an I-X. Its probability is the product of the probabilities of
    its tags. Of equally probable tags, the one with the lower label index is taken.

    logits: (words, labels).
    labels: O, B-X and I-X for any types X, in any order.
    """
    from onetrunk.core.tasks.metrics import log_softmax

    best = [labels[i] for i in logits.argmax(axis=-1).tolist()]
    return best if is_valid(best) else [labels[i] for i in _viterbi(log_softmax(logits), labels)]


def is_valid(tags: Sequence[str]) -> bool:
    """Return whether each I-X of `tags` follows a B-X or an I-X."""
    return all(not tag.startswith("I-") or before[2:] == tag[2:] for before, tag in pairwise(["O", *tags]))


def _viterbi(scores: np.ndarray, labels: Sequence[str]) -> list[int]:
    """Return the label indices of the best valid sequence. scores: log-probabilities (words, labels), words > 0."""
    import numpy as np

    every = np.arange(len(labels))
    inside = np.array([label.startswith("I-") for label in labels])
    index = {label: i for i, label in enumerate(labels)}
    # An I-X can follow B-X or I-X only; any other tag can follow the tag with the best score.
    begin = np.array([index.get(f"B-{label[2:]}", i) if inside[i] else i for i, label in enumerate(labels)])
    total = np.where(inside, -np.inf, scores[0])
    steps = []
    for row in scores[1:]:
        own = np.where(total[begin] >= total, begin, every)
        steps.append(np.where(inside, own, total.argmax()))
        total = total[steps[-1]] + row
    path = [int(total.argmax())]
    for before in reversed(steps):
        path.append(int(before[path[-1]]))
    return path[::-1]
