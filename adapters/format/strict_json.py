"""The strict JSON reader: UTF-8, no repeated keys in an object, no NaN, no number that a float cannot hold.

`parse`, for files, also limits size and depth and refuses lone surrogates: characters that UTF-8 cannot encode.
Other users have limits of their own.
"""

from __future__ import annotations

import json
import math
import re
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
"""Larger whole numbers are refused, because programs that read numbers as floats could not read them."""
_SURROGATES = re.compile("[\ud800-\udfff]")


class JSONFault(FileFault):
    """The text is not strict JSON. line, column: where a syntax error is, from 1; both 0 for other faults."""

    def __init__(self, why: str, line: int = 0, column: int = 0) -> None:
        where = f" at line {line}, column {column}" if line else ""
        super().__init__(f"is not JSON: {why}{where}" if line else why)
        self.why, self.line, self.column = why, line, column


def parse(data: bytes) -> JSON:
    """Return the value of a JSON file with the content `data`. Raises FileFault with the reason."""
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
    """Return the JSON value that begins at the index `at` of `text`, and the index of its end. Raises JSONFault."""
    with _faults():
        return _DECODER.raw_decode(text, at)


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except json.JSONDecodeError as error:
        raise JSONFault(error.msg, error.lineno, error.colno) from None
    except RecursionError:
        raise JSONFault(f"is nested deeper than {MAX_DEPTH} levels") from None
    except JSONFault:
        raise
    except ValueError:  # int() refuses thousands of digits
        raise JSONFault("has a whole number with too many digits") from None


def is_unicode(text: str) -> bool:
    """Tell whether UTF-8 can encode `text`. JSON can contain lone surrogates, UTF-8 cannot."""
    return text.isascii() or _SURROGATES.search(text) is None


def dump(value: JSON) -> bytes:
    """Return `value`, in which `faults` finds nothing, as indented JSON with sorted keys, in UTF-8."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8")


def dump_line(value: JSON) -> bytes:
    """Return `value`, in which `faults` finds nothing, as one line of JSON with sorted keys, in UTF-8."""
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def faults(value: object) -> Iterator[str]:
    """Yield the reasons why `parse` would refuse `value`: depth, NaN, lone surrogates, other types."""
    # A stack, because recursion would fail for values that are nested too deep.
    stack: list[tuple[object, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, dict | list) and depth >= MAX_DEPTH:
            yield f"is nested deeper than {MAX_DEPTH} levels"
        elif isinstance(item, dict):
            yield from (
                f"has the key {key!r}, which is not a string" for key in item if not isinstance(key, str)
            )
            stack += [(key, depth + 1) for key in item if isinstance(key, str)]
            stack += [(each, depth + 1) for each in item.values()]
        elif isinstance(item, list):
            stack += [(each, depth + 1) for each in item]
        elif fault := _scalar_fault(item):
            yield fault


def _scalar_fault(item: object) -> str | None:
    if isinstance(item, str) and not is_unicode(item):
        return f"has half a surrogate pair, which is not a character, in {item[:40]!r}"
    if isinstance(item, float) and not math.isfinite(item):
        return f"has the number {item}, only finite ones are allowed"
    if type(item) is int and abs(item) >= _BEYOND:
        return f"has a number of {len(str(item))} digits, more than a float can hold"
    # Not isinstance for integers: some of numpy's are subclasses of int, and are written in another form.
    if item is None or isinstance(item, str | float) or type(item) in (bool, int):
        return None
    return f"has a {type(item).__name__}, which is not JSON"


def _unique(pairs: list[tuple[str, Any]]) -> JSONObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
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
