"""Entities as spans of a text: without white space at their edges, as tags of words, and their metrics."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from unicodedata import category

from onetrunk.core.tasks.entities import Entity, cuts_word, fits_as_bytes
from onetrunk.core.tasks.records import JSONObject, Span

OUTSIDE = "O"


def trimmed(text: str, start: int, end: int) -> Span:
    """Return the span without white space and invisible characters, such as a soft hyphen, at its edges.

    A span of nothing else is returned unchanged.
    """
    first, last = start, end
    while first < last and _is_blank(text[first]):
        first += 1
    while first < last and _is_blank(text[last - 1]):
        last -= 1
    return (first, last) if first < last else (start, end)


def _is_blank(character: str) -> bool:
    return character.isspace() or category(character) == "Cf"


def entities_of(spans: Sequence[Span], types: Sequence[str]) -> list[Entity]:
    """Return the entities with these spans and types."""
    return [(start, end, name) for (start, end), name in zip(spans, types, strict=True)]


def entities_of_tags(text: str, words: Sequence[Span], tags: Sequence[str]) -> Iterator[tuple[Entity, Span]]:
    """Yield each entity of valid IOB2 tags with the range of its words; the end of the range is exclusive.

    words: character spans of `text`, one for each tag.
    """
    for first in (i for i, tag in enumerate(tags) if tag.startswith("B-")):
        last = first + 1
        while last < len(tags) and tags[last].startswith("I-"):
            last += 1
        yield (*trimmed(text, words[first][0], words[last - 1][1]), tags[first][2:]), (first, last)


def tags_of_entities(
    text: str, words: Sequence[Span], entities: Sequence[Entity]
) -> tuple[list[str | None], list[Entity]]:
    """Return the IOB2 tag of each word, and the entities that begin or end inside a word.

    A word with a part of such an entity has the tag None: a model can learn neither that it is an entity, nor that
    it is not.
    words, entities: in the order of the text; entities do not overlap.
    """
    tags: list[str | None] = [OUTSIDE] * len(words)
    unreachable: list[Entity] = []
    for start, end, name in entities:
        first = bisect_right(words, start, key=lambda word: word[1])
        last = bisect_left(words, end, key=lambda word: word[0])
        if first < last and trimmed(text, words[first][0], words[last - 1][1]) == (start, end):
            tags[first:last] = [f"B-{name}", *[f"I-{name}"] * (last - first - 1)]
        else:
            unreachable.append((start, end, name))
            tags[first:last] = [None] * (last - first)
    return tags, unreachable


def entity_metrics(gold: Sequence[Collection[Entity]], predicted: Sequence[Collection[Entity]]) -> JSONObject:
    """Return {precision, recall, f1, per_type} of whole entities: spans and types must be equal; micro average.

    per_type has {precision, recall, f1, support} of each type; support is the number of gold entities. A metric is
    None if its denominator is 0.

    gold, predicted: the distinct entities of each text.
    """
    from onetrunk.core.tasks.metrics import precision_recall_f1

    pairs = list(zip(map(set, gold), map(set, predicted), strict=True))
    hits, found, support = (
        Counter(name for own in sets for _, _, name in own)
        for sets in ([a & b for a, b in pairs], [b for _, b in pairs], [a for a, _ in pairs])
    )
    table = {
        name: {**precision_recall_f1(hits[name], found[name], support[name]), "support": support[name]}
        for name in sorted(found.keys() | support.keys())
    }
    return {**precision_recall_f1(hits.total(), found.total(), support.total()), "per_type": table}


def count_bytes(text: str, entities: Sequence[Entity]) -> bool:
    """Return whether the offsets count the bytes of UTF-8, and not characters.

    This is so if at least two entities follow a character of several bytes, each of them cuts words or is outside
    the text as characters, and none of them does as bytes.
    """
    if text.isascii():
        return False
    wide = next(at for at, character in enumerate(text) if not character.isascii())
    later = [entity for entity in entities if entity[1] > wide]
    if len(later) < 2 or not all(cuts_word(text, start, end) for start, end, _ in later):
        return False
    return all(fits_as_bytes(text, start, end) for start, end, _ in later)
