"""JSON as it is read everywhere: UTF-8, no key twice in an object, no NaN, no number that a float cannot hold.

Four kinds of readers differ in what else they ask:

- files of artifacts and of the store (`parse`): at most 16 MiB, 64 levels deep, and no half of a surrogate pair;
- data sets (core/data): records of one long text (`decode_at`), whose lines messages name;
- requests: a bound on the values, which comes before any is decoded; half a surrogate pair is refused later, by the
  check of each input, so that this input fails alone;
- answers of a service: nothing else, as each is bounded by the client that reads it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from onetrunk.adapters.format.files import FileFault

JSON: TypeAlias = Any
"""None, bool, int, float, str, list of JSON or dict from str to JSON."""
JSONObject: TypeAlias = dict[str, Any]

MAX_BYTES = 16 * 2**20
"""The longest JSON document that is read, in bytes."""
MAX_DEPTH = 64
"""The deepest nesting of arrays and objects that is read."""
_BEYOND = 2**1023
"""No whole number so large is read: floats, which others read numbers as, end a little above it."""


class JSONFault(FileFault):
    """A text that is not JSON as we read it. line, column: where, from 1, if it is not JSON at all."""

    def __init__(self, why: str, line: int = 0, column: int = 0) -> None:
        where = f" at line {line}, column {column}" if line else ""
        super().__init__(f"is not JSON: {why}{where}" if line else why)
        self.why, self.line, self.column = why, line, column


def parse(data: bytes) -> JSON:
    """Read one JSON document of a file. Raises FileFault saying what is wrong with it."""
    if len(data) > MAX_BYTES:
        raise FileFault(f"has {len(data)} bytes of JSON, at most {MAX_BYTES} are allowed")
    value = loads(data)
    if fault := next(faults(value), None):
        raise JSONFault(fault)
    return value


def loads(data: bytes | str) -> JSON:
    """Return the value of one JSON document. Raises JSONFault."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JSONFault(f"is not UTF-8: {error.reason} at byte {error.start}") from None
    with _faults():
        return _DECODER.decode(text)


def decode_at(text: str, at: int) -> tuple[JSON, int]:
    """Return the JSON value that begins at `at` in a text, and where it ends. Raises JSONFault."""
    with _faults():
        return _DECODER.raw_decode(text, at)


@contextmanager
def _faults() -> Iterator[None]:
    """Turn what Python's decoder raises into JSONFault."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise JSONFault(error.msg, error.lineno, error.colno) from None
    except RecursionError:
        raise JSONFault(f"is nested deeper than {MAX_DEPTH} levels") from None
    except JSONFault:
        raise
    except ValueError:  # int() does not take what has thousands of digits
        raise JSONFault("has a whole number with too many digits") from None


def is_unicode(text: str) -> bool:
    """Tell whether `text` can be written in UTF-8: JSON can hold half a surrogate pair, and UTF-8 cannot."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def dump(value: JSON) -> bytes:
    """Return `value` as indented UTF-8 with sorted keys, the same bytes for equal values.

    Raises ValueError or TypeError for what is no JSON; ask `faults` first.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8")


def dump_line(value: JSON) -> bytes:
    """Return `value` as one line of UTF-8 with sorted keys. Raises like `dump`."""
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def faults(value: object) -> Iterator[str]:
    """Yield what keeps `value` from being JSON that we read back: depth, NaN, broken text, other types."""
    # A stack instead of recursion: the depth is what is not trusted here.
    stack: list[tuple[object, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, dict | list) and depth >= MAX_DEPTH:
            yield f"is nested deeper than {MAX_DEPTH} levels"
        elif isinstance(item, dict):
            stack += [(key if isinstance(key, str) else _NoKey(key), depth + 1) for key in item]
            stack += [(each, depth + 1) for each in item.values()]
        elif isinstance(item, list):
            stack += [(each, depth + 1) for each in item]
        elif fault := _scalar_fault(item):
            yield fault


class _NoKey:
    """A key that is no text."""

    def __init__(self, key: object) -> None:
        self.key = key


def _scalar_fault(item: object) -> str | None:
    if isinstance(item, _NoKey):
        return f"has the key {item.key!r}, which is no text"
    if isinstance(item, str):
        return (
            None
            if is_unicode(item)
            else f"has half a surrogate pair, which is not a character, in {item[:40]!r}"
        )
    if isinstance(item, float):
        return None if math.isfinite(item) else f"has the number {item}, only finite ones are allowed"
    if type(item) is int and abs(item) >= _BEYOND:
        return f"has a number of {len(str(item))} digits, only those that a float holds are allowed"
    # Exact types: numpy's scalars, some of which are subclasses, would be written otherwise than they are read.
    return (
        None
        if item is None or type(item) in (bool, int)
        else f"has a {type(item).__name__}, which is no JSON"
    )


def _unique(pairs: list[tuple[str, Any]]) -> JSONObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise JSONFault(f"has the key {twice[:64]!r} twice in one object")
    return found


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise JSONFault(f"has the number {digits[:20]}, which is too large")
    return value


def _no_constant(constant: str) -> float:
    raise JSONFault(f"has the number {constant}, only finite ones are allowed")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)
