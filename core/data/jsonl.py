"""Records from JSON Lines and from JSON lists, parsed strictly."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from onetrunk.core.data.lines import NumberedLine, peek
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import JSONObject, Record

_SPACE = re.compile(r"[ \t\r\n]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_jsonl(name: str, lines: Iterable[NumberedLine]) -> Iterator[tuple[int, Record]]:
    """Yield (line, object) for each line of JSONL that is not blank.

    name: what messages call the file. Raises DataError with file and line for what is not JSON, not an
    object, has a key twice, half a surrogate pair, or NaN and the like.
    """
    decoder = _decoder()
    for number, text in lines:
        line = text.rstrip("\r\n")
        if line.strip():
            with _json_faults(name, number, number):
                value = decoder.decode(line)
            yield number, _object(value, line, f"{name}:{number}")


def read_json(name: str, lines: Iterable[NumberedLine]) -> Iterator[tuple[int, Record]]:
    """Yield (first line, object) for each object of a JSON list, or of JSONL; raises as `read_jsonl` does.

    A list is held in memory whole; JSONL is streamed.
    """
    head, lines = peek(lines)
    if head.lstrip().startswith("["):
        yield from _read_list(name, "".join(text for _, text in lines))
    else:
        yield from read_jsonl(name, lines)


def _read_list(name: str, text: str) -> Iterator[tuple[int, Record]]:
    """Yield the objects of one JSON list; parsed one by one, so that each has its line."""
    decoder = _decoder()
    number, counted = 1, 0
    at = _skip(text, text.index("[") + 1)
    closed = text.startswith("]", at)
    while not closed:
        number, counted = number + text.count("\n", counted, at), at
        with _json_faults(name, 1, number):
            value, end = decoder.raw_decode(text, at)
        yield number, _object(value, text[at:end], f"{name}:{number}")
        at = _skip(text, end)
        closed = text.startswith("]", at)
        if not closed:
            _expect(
                name, text, at, text.startswith(",", at), "expected ',' or ']' after an object of the list"
            )
            at = _skip(text, at + 1)
    at = _skip(text, at + 1)
    _expect(name, text, at, at == len(text), "nothing may follow the list")


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _expect(name: str, text: str, at: int, met: bool, message: str) -> None:
    if not met:
        fault = json.JSONDecodeError(message, text, at)
        raise DataError(f"{name}:{fault.lineno}", f"bad JSON at column {fault.colno}: {message}")


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_no_constant)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> JSONObject:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} is given twice; keep one")
    return result


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON; use null or a number")


@contextmanager
def _json_faults(name: str, first: int, record: int) -> Iterator[None]:
    """Translate the faults of JSON text that begins on line `first`, in the record of line `record`."""
    try:
        yield
    except json.JSONDecodeError as fault:
        where = f"{name}:{first + fault.lineno - 1}"
        hint = "expected one JSON object a line, or in a .json file a list of them"
        raise DataError(where, f"bad JSON at column {fault.colno}: {fault.msg}; {hint}") from fault
    except RecursionError as fault:
        raise DataError(f"{name}:{record}", "the JSON is nested too deeply") from fault
    except ValueError as fault:
        raise DataError(f"{name}:{record}", str(fault)) from fault


def _object(value: object, source: str, where: str) -> JSONObject:
    if not isinstance(value, dict):
        found = {list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
        kind = found.get(type(value), "a number")
        raise DataError(where, f'{kind} where an object was expected, such as {{"text": "…"}}')
    if _SURROGATE.search(source):  # half a pair is no character: neither a tokeniser nor UTF-8 takes it
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as fault:
            escape = f"\\u{ord(fault.object[fault.start]):04x}"
            raise DataError(
                where, f"{escape} is half a surrogate pair, not a character; remove it"
            ) from fault
    return value
