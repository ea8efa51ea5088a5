"""JSON as it goes over the wire: strictly read, and written once."""

from __future__ import annotations

import json
from typing import Any

from onetrunk.adapters.format.strict_json import JSONFault, loads
from onetrunk.core.serving.http.problems import Refusal


def read_json(data: bytes, most: int) -> Any:
    """Return the value of a JSON document in UTF-8, which may have `most` values in it.

    Raises Refusal for what is not JSON as we read it, with line and column.
    """
    _check_size(data, most)
    try:
        return loads(data)
    except JSONFault as fault:
        raise Refusal("malformed-json", f"this {fault}") from None


def write_json(value: object) -> bytes:
    """Return `value` as JSON in UTF-8.

    Raises ValueError for NaN, infinity and half a surrogate pair, TypeError for what JSON does not have.
    """
    return _ENCODER.encode(value).encode("utf-8")


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


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
