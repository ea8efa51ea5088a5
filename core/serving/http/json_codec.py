"""JSON as it goes over the wire: strictly read, and written once."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from onetrunk.core.serving.http.problems import Refusal

_Pairs = list[tuple[str, Any]]


def read_json(data: bytes, most: int) -> Any:
    """Return the value of a JSON document in UTF-8, which may have `most` values in it.

    Raises Refusal for what is none, with line and column; a key that an object has twice, numbers that no float can
    hold and NaN are refused, too: what another reader would make of them is not what we would.
    """
    _check_size(data, most)
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _malformed(f"it is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except ValueError:  # int() does not take what has thousands of digits
        raise _malformed("it has a whole number with too many digits") from None


def write_json(value: object) -> bytes:
    """Return `value` as JSON in UTF-8.

    Raises ValueError for NaN, infinity and half a surrogate pair, TypeError for what JSON does not have.
    """
    return _ENCODER.encode(value).encode("utf-8")


def is_unicode(text: str) -> bool:
    """Tell whether `text` can be written in UTF-8: JSON can hold half a surrogate pair, and UTF-8 cannot."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check_size(data: bytes, most: int) -> None:
    """Raise Refusal for JSON of more than `most` values; decoding millions of them would hold everything up."""
    if _count(data) <= most:
        return
    bare = data.replace(rb"\\", b"").replace(rb"\"", b"")
    if bare.count(b'"') <= 2 * most and _count(b"".join(bare.split(b'"')[::2])) <= most:  # outside of strings
        return
    raise Refusal("body-too-large", f"it has over {most} values, which no sound request needs", most=most)


def _count(data: bytes) -> int:
    """Return how many values JSON has at most: each begins it, a list or an object, or comes after a comma."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _malformed(why: str) -> Refusal:
    return Refusal("malformed-json", f"this is not JSON: {why}")


def _unique(pairs: _Pairs) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _malformed(f"an object has the key {twice[:64]!r} twice")
    return value


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _malformed("it has a number that is too large")
    return value


def _constant(name: str) -> NoReturn:
    raise _malformed(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_constant)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
