"""Strict readers of JSON Lines and of JSON lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from onetrunk.adapters.format.strict_json import JSON, JSONFault, decode_at, faults, loads
from onetrunk.core.data.formats.base import Source
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import Record

NumberedValue = tuple[int, JSON]
"""The number of a value's first line, or of its row, and the value."""

_ONE_LIST = re.compile(r"\s*\[(?!\s*\")")
_SPACE = re.compile(r"[ \t\r\n]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_jsonl(source: Source) -> Iterator[tuple[int, Record]]:
    """Yield (line number, object) for each line of JSONL that is not blank.

    Raises DataError, with file and line, for invalid JSON, a value that is not an object, a duplicate key, an
    unpaired surrogate, and NaN or an infinity.
    """
    return only_objects(source, _line_values(source))


def read_json(source: Source) -> Iterator[tuple[int, Record]]:
    """Yield (number of its first line, object) for each object of a JSON list, or of JSONL.

    A list is read into memory as a whole; JSONL is read line by line. Raises the same DataError as `read_jsonl`.
    """
    return only_objects(source, json_values(source))


def json_values(source: Source) -> Iterator[NumberedValue]:
    """Yield (number of its first line, value) for each value of a JSON list, or of JSONL.

    A value may be of any type. A file that begins with `[` is one list, unless a string follows: then its lines are
    lists. Raises DataError as `read_jsonl` does for invalid JSON.
    """
    if _ONE_LIST.match(source.first_line()):
        return _list_values(source.name, "".join(text for _, text in source.lines()))
    return _line_values(source)


def only_objects(source: Source, values: Iterator[NumberedValue]) -> Iterator[tuple[int, Record]]:
    """Yield `values`. Raises DataError for one that is not an object."""
    for number, value in values:
        if not isinstance(value, Mapping):
            found = {list: "a list", str: "a string", bool: "a Boolean", type(None): "null"}
            kind = found.get(type(value), "a number")
            raise DataError(source.place(number), f'is {kind}; expected an object such as {{"text": "…"}}')
        yield number, value


def _line_values(source: Source) -> Iterator[NumberedValue]:
    for number, text in source.lines():
        line = text.rstrip("\r\n")
        if line.strip():
            with _json_faults(source.name, number, number):
                value = loads(line)
            yield number, _characters(value, line, source.place(number))


def _list_values(name: str, text: str) -> Iterator[NumberedValue]:
    """Yield the values of one JSON list, parsed one by one so that the line of each is known."""
    number, counted = 1, 0
    at = _skip(text, text.index("[") + 1)
    closed = text.startswith("]", at)
    while not closed:
        number, counted = number + text.count("\n", counted, at), at
        with _json_faults(name, 1, number):
            value, end = decode_at(text, at)
        yield number, _characters(value, text[at:end], f"{name}:{number}")
        at = _skip(text, end)
        closed = text.startswith("]", at)
        if not closed:
            _expect(
                name, text, at, text.startswith(",", at), "expected ',' or ']' after an object of the list"
            )
            at = _skip(text, at + 1)
    at = _skip(text, at + 1)
    _expect(name, text, at, at == len(text), "expected the end of the file after the list")


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _expect(name: str, text: str, at: int, met: bool, message: str) -> None:
    if not met:
        fault = json.JSONDecodeError(message, text, at)
        raise DataError(f"{name}:{fault.lineno}", f"invalid JSON at column {fault.colno}: {message}")


@contextmanager
def _json_faults(name: str, first: int, record: int) -> Iterator[None]:
    """Turn JSONFault into DataError.  first, record: the line numbers where the JSON text and the record start."""
    try:
        yield
    except JSONFault as fault:
        if not fault.line:
            raise DataError(f"{name}:{record}", f"the record {fault}") from fault
        where = f"{name}:{first + fault.line - 1}"
        hint = "expected one JSON object per line, or a list of objects in a .json file"
        raise DataError(where, f"invalid JSON at column {fault.column}: {fault.why}; {hint}") from fault


def _characters(value: JSON, source: str, where: str) -> JSON:
    # Tokenizers and UTF-8 reject unpaired surrogates. Only JSON with such an escape needs the slow search for one.
    if _SURROGATE.search(source) and (wrong := next(faults(value), None)):
        raise DataError(where, f"the record {wrong}; remove it")
    return value
