"""Reader of CoNLL-U, the format of Universal Dependencies, with tags of entities."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

from onetrunk.core.data.formats.base import Source
from onetrunk.core.data.lines import NumberedLine
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import JSONObject, Record
from onetrunk.core.tasks.iob2 import TAGS_EXPECTED, is_tag

_COLUMNS = 10
_ID = re.compile(r"(?P<first>[0-9]+)(?P<kind>[-.]?)(?P<last>[0-9]*)")
_TAG_KEY = "ner"  # in lower case; the keys of MISC are written NER=… or ner=…
_NONE = ("", "_")
_HELD = 20_000
"""The largest number of sentences before the first one with a tag."""

_Sentence = tuple[int, JSONObject]
_Word = tuple[str, str | None, bool]
"""Form, tag, and whether a space follows."""


def read_conllu(source: Source) -> Iterator[tuple[int, Record]]:
    """Yield (line number of its first token, {"words", "tags", "spaces"}) for each sentence.

    Words are the forms of surface tokens: a range such as `1-2` replaces its words, and empty nodes such as `8.1`
    are left out. The tag is `NER=` in the column MISC, or a column after it. A word without a tag is `O`; if no
    word of the file has one, there are no `tags`. `spaces` says after which words a space follows; it is there if a
    word of the sentence has `SpaceAfter=No`.
    Raises DataError, with file and line, for a wrong number of columns, an invalid ID and an invalid tag.
    """
    sentences = (_sentence(source, block) for block in _blocks(source) if block)
    held: list[_Sentence] = []
    for sentence in sentences:
        held.append(sentence)
        if any(sentence[1]["tags"]):
            break
        if len(held) == _HELD:  # the file is without tags
            yield from _untagged(source, chain(held, sentences))
            return
    else:
        yield from _untagged(source, held)
        return
    for number, record in chain(held, sentences):
        if missing := record["tags"].count(None):
            source.tally.add(
                "words-without-tag", "words without NER= count as O", source.place(number), missing
            )
        yield number, {**record, "tags": [tag or "O" for tag in record["tags"]]}


def _untagged(source: Source, sentences: Iterator[_Sentence] | list[_Sentence]) -> Iterator[_Sentence]:
    for number, record in sentences:
        if any(record.pop("tags")):
            late = f"has the first NER= after {_HELD} sentences without one; tag all words (NER=O)"
            raise DataError(source.place(number), late)
        yield number, record


def _blocks(source: Source) -> Iterator[list[NumberedLine]]:
    block: list[NumberedLine] = []
    for number, text in source.lines():
        line = text.rstrip("\r\n")
        if not line.strip():
            yield block
            block = []
        elif not line.startswith("#"):
            block.append((number, line))
    yield block


def _sentence(source: Source, block: Sequence[NumberedLine]) -> _Sentence:
    words: list[_Word] = []
    covered = 0  # the last ID of a range
    width = len(block[0][1].split("\t"))
    for number, line in block:
        where, cells = source.place(number), line.split("\t")
        if len(cells) not in (_COLUMNS, _COLUMNS + 1) or len(cells) != width:
            expected = f"{_COLUMNS} columns separated by tabs, or one more with the tag"
            raise DataError(where, f"has {len(cells)} columns; expected {expected}, the same in a sentence")
        identity = _ID.fullmatch(cells[0])
        if not identity or bool(identity["kind"]) != bool(identity["last"]):
            raise DataError(where, f"the ID is {cells[0][:40]!r}; expected a number, a range or a decimal")
        word = _word(where, cells)
        if identity["kind"] == "-":
            covered = int(identity["last"])
            source.tally.add("multiword-tokens", "tokens of several words are read as one word", where)
            words.append(word)
        elif not identity["kind"] and int(identity["first"]) > covered:
            words.append(word)
        elif not identity["kind"]:  # a range without a tag of its own takes the first one of its words
            form, tag, space = words[-1]
            words[-1] = form, _first_tag(tag, word[1]), space
    if not words:
        raise DataError(source.place(block[0][0]), "the sentence has no words")
    spaces = [space for _, _, space in words]
    record: JSONObject = {"words": [form for form, _, _ in words], "tags": [tag for _, tag, _ in words]}
    return block[0][0], record if all(spaces) else {**record, "spaces": spaces}


def _first_tag(first: str | None, second: str | None) -> str | None:
    return second if first in (None, "O") and second is not None else first


def _word(where: str, cells: Sequence[str]) -> _Word:
    misc = {}
    for part in cells[9].split("|"):
        key, _, value = part.partition("=")
        misc[key.strip().lower()] = value.strip()
    tag = cells[_COLUMNS].strip() if len(cells) > _COLUMNS else misc.get(_TAG_KEY, "")
    if tag not in _NONE and not is_tag(tag):
        raise DataError(where, f"the tag is {tag[:40]!r}; expected {TAGS_EXPECTED}")
    if not cells[1].strip():
        raise DataError(where, "the form of the word is empty")
    return cells[1], None if tag in _NONE else tag, misc.get("spaceafter", "").lower() != "no"
