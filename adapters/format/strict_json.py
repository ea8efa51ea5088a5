"""JSON from strangers: UTF-8, bounded in size and depth, no duplicate keys, no NaN; and one way to write it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
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


def parse(data: bytes) -> JSON:
    """Read one JSON document. Raises FileFault saying what is wrong with it."""
    if len(data) > MAX_BYTES:
        raise FileFault(f"has {len(data)} bytes of JSON, at most {MAX_BYTES} are allowed")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise FileFault(f"is nested deeper than {MAX_DEPTH} levels") from None
    except UnicodeDecodeError as error:
        raise FileFault(f"is not UTF-8: {error.reason} at byte {error.start}") from error
    except FileFault:
        raise
    except ValueError as error:
        raise FileFault(f"is not JSON: {error}") from error
    if fault := next(faults(value), None):
        raise FileFault(fault)
    return value


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
            None if item.isascii() or _encodes(item) else f"has text that is not valid Unicode: {item[:40]!r}"
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


def _encodes(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _unique(pairs: list[tuple[str, Any]]) -> JSONObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise FileFault(f"has the key {twice!r} twice in one object")
    return found


def _no_constant(constant: str) -> float:
    raise FileFault(f"has the number {constant}, only finite ones are allowed")
