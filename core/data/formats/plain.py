"""Readers of plain text: one text a line, also with the labels of fastText."""

from __future__ import annotations

import re
from collections.abc import Iterator

from onetrunk.core.data.formats.base import Source
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import JSONObject, Record

FASTTEXT_MARK = "__label__"
"""What a label begins with in files of fastText."""
_LABEL = re.compile(rf"{FASTTEXT_MARK}(\S+)\s*")


def read_text(source: Source) -> Iterator[tuple[int, Record]]:
    """Yield (line number, {"text": line}) for each line; an empty line is an empty text."""
    for number, line in source.lines():
        yield number, {"text": _content(line)}


def read_fasttext(source: Source) -> Iterator[tuple[int, Record]]:
    """Yield (line number, {"text", "label"}) for each line `__label__x text` of a file of fastText.

    Several labels are a list under `labels`. Blank lines are skipped. Raises DataError, with file and line, for a
    line without a label.
    """
    for number, line in source.lines():
        rest = _content(line).strip()
        if not rest:
            continue
        labels = []
        while found := _LABEL.match(rest):
            labels.append(found[1])
            rest = rest[found.end() :]
        if not labels:
            expected = f"expected {FASTTEXT_MARK}NAME and a text, as in the first line"
            raise DataError(f"{source.name}:{number}", f"has no label; {expected}; or --format text")
        record: JSONObject = {"text": rest}
        yield number, record | ({"label": labels[0]} if len(labels) == 1 else {"labels": labels})


def _content(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")
