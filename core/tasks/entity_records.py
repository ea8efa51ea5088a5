"""Reads records with named entities: tagged words, or a text with spans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onetrunk.core.tasks.detokenizer import join_words
from onetrunk.core.tasks.entities import (
    BYTES_TO_CHARACTERS,
    Entity,
    checked_entities,
    entity_list,
    parse_entity,
)
from onetrunk.core.tasks.entity_spans import count_bytes, entities_of_tags, trimmed
from onetrunk.core.tasks.iob2 import to_iob2
from onetrunk.core.tasks.records import Example, Record, Span

TRIMMED = "trimmed"
"""The remark of an example for each entity whose edges were left out."""


def read_entity_record(record: Record) -> Example:
    """Read a record of one of three forms. Without tags and entities the target is None.

    {"words" or "tokens", "tags" or "ner_tags"}: one tag per word, in a scheme that `to_iob2` converts. The text is
        that of `join_words`; "spaces" says whether a space follows each word.
    {"text", "tags"}: one tag per word, where white space separates the words.
    {"text", "entities": [{"start", "end", "label"}]}: spans in characters. White space and invisible characters at
        their edges are left out, and `remarks` reports it.
    The target has the type of each entity, and `spans` its characters.
    Raises ValueError for other records.
    """
    words, tags = _first(record, "words", "tokens"), _first(record, "tags", "ner_tags")
    text, entities = record.get("text"), record.get("entities")
    if words is not None:
        return _read_words(words, tags, record.get("spaces"))
    if not isinstance(text, str):
        raise ValueError(
            f"expected a list under 'words' or a string under 'text'; the record has {sorted(record)}"
        )
    if tags is not None:
        return _read_words(text.split(), tags, None)
    return Example(text) if entities is None else _read_entities(text, entities)


def _first(record: Record, *keys: str) -> Any:
    return next((record[key] for key in keys if record.get(key) is not None), None)


def _read_words(words: Any, tags: Any, spaces: Any) -> Example:
    _check_strings("words", words)
    for number, word in enumerate(words, 1):
        if not word.strip() or len(word.splitlines()) > 1:
            raise ValueError(
                f"word {number} is {word!r}; expected at least one visible character, and no line end"
            )
    if spaces is not None and not (
        isinstance(spaces, list | tuple) and all(isinstance(each, bool) for each in spaces)
    ):
        raise ValueError(f"expected a list of true and false under 'spaces', found {str(spaces)[:80]}")
    text, spans = join_words(words, spaces)
    if tags is None:
        return Example(text, words=spans)
    if isinstance(tags, list | tuple) and any(map(_is_integer, tags)):
        raise ValueError(
            "the tags are integers; give their names in order with --labels O,B-PER,… or --labels FILE, or put the "
            "dataset_info.json of the data set beside the file"
        )
    _check_strings("tags", tags)
    if len(tags) != len(words):
        raise ValueError(f"expected one tag per word, found {len(tags)} tags for {len(words)} words")
    found = [entity for entity, _ in entities_of_tags(text, spans, to_iob2(tags))]
    return _example(text, found, spans)


def _example(text: str, entities: Sequence[Entity], words: Sequence[Span] = (), *remarks: str) -> Example:
    types, spans = tuple(name for *_, name in entities), tuple((start, end) for start, end, _ in entities)
    return Example(text, types, tuple(words), remarks=remarks, spans=spans)


def _is_integer(tag: object) -> bool:
    return type(tag) is int or (isinstance(tag, str) and tag.isdecimal())


def _check_strings(name: str, values: Any) -> None:
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"expected a list of strings under {name!r}, found {str(values)[:80]}")


def _read_entities(text: str, records: Any) -> Example:
    if count_bytes(text, sorted(map(parse_entity, entity_list(records)))):
        raise ValueError(
            "the offsets of the entities count bytes of UTF-8, expected characters (Unicode code points); convert "
            f"them, with {BYTES_TO_CHARACTERS}"
        )
    given = checked_entities(text, records)
    entities = [(*trimmed(text, start, end), name) for start, end, name in given]
    changed = sum(before != after for before, after in zip(given, entities, strict=True))
    return _example(text, entities, (), *[TRIMMED] * changed)
