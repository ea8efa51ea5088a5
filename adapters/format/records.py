"""Read records from parsed JSON and TOML. A record is a frozen dataclass, which pydantic validates.

All faults are reported at once, each with the path of its key, such as `backbone.layers`. Types are strict: a bool
or a float is not accepted as a whole number, nor a number as a string.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, TypeAlias, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, ConfigDict, FailFast, Field, TypeAdapter, ValidationError, with_config

from onetrunk.adapters.format.files import FileFault

Text: TypeAlias = Annotated[str, Field(min_length=1)]
"""A string that is not empty."""
Whole: TypeAlias = Annotated[int, Field(ge=0)]
"""A whole number from 0."""
Count: TypeAlias = Annotated[int, Field(ge=1)]
"""A whole number from 1."""

T = TypeVar("T")


def _some(items: tuple[T, ...]) -> tuple[T, ...]:
    if not items:
        raise ValueError("must have at least one item")
    return items


Some = AfterValidator(_some)
"""Checks that a tuple is not empty. pydantic's check would also report a tuple with a faulty item."""
Strings: TypeAlias = Annotated[tuple[str, ...], FailFast(), Some]
"""At least one string. Strings may be empty or repeated."""

MAX_TOML_BYTES = 2**20
"""The longest TOML file that is read, in bytes."""
MAX_KEYS = 2**16
"""The most keys of a record and the records within it. Each key could be a fault, which takes memory."""

_SHOWN = 20
_KEY = "[key]"
"""pydantic's name for a key in the path of a fault."""
_KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a string",
    "tuple_type": "a list",
    "list_type": "a list",
    "string_unicode": "a string without half a surrogate pair",
}
"""Expected types by pydantic's name of a fault, where its own message is unclear."""
_OBJECTS = ("dict_type", "mapping_type", "dataclass_type", "model_type")
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")

closed = with_config(ConfigDict(extra="forbid"))
"""Decorator of a record: unknown keys in it, and in the records within it, are faults."""


class RecordFault(ValueError):
    """Data are not a valid record. faults: messages, each of which begins with the dotted path of a key."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class FaultStyle:
    """How messages describe faults. secret: leave out the wrong values. table: what an object is called."""

    secret: bool = False
    table: str = "an object"

    def shown(self, value: object) -> str:
        """Return a value for messages: a list or an object only by its kind, other values shortened."""
        if isinstance(value, dict):
            return "this object"
        if isinstance(value, list | tuple):
            return "an empty list" if self.secret and not value else "this list"
        if value is None or not self.secret:
            return "null" if value is None else f"{value!r:.60}"
        if isinstance(value, bool):
            return "true or false"
        return "this string" if isinstance(value, str) else "a number"


JSON_STYLE = FaultStyle()
TOML_STYLE = FaultStyle(table="a table")
SECRET_TOML_STYLE = FaultStyle(secret=True, table="a table")
REQUEST_STYLE = FaultStyle(secret=True)


def matching(pattern: str, expected: str) -> AfterValidator:
    """Return a check that a whole string matches `pattern`. expected: the pattern in words, for messages."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"must be {expected}, not {text[:60]!r}")
        return text

    return AfterValidator(check)


Sha256: TypeAlias = Annotated[str, matching("[0-9a-f]{64}", "64 hexadecimal digits in lower case")]
"""A sha256 in hexadecimal."""


def read(kind: type[T], value: object, style: FaultStyle = JSON_STYLE) -> T:
    """Return parsed JSON or TOML as a record of the class `kind`; dates of TOML as strings. Raises RecordFault."""
    if _count_keys(value) > MAX_KEYS:
        raise RecordFault([f"has more than {MAX_KEYS} keys"])
    try:
        adapter = _adapter(kind)  # type: ignore[arg-type] # mypy takes a class for unhashable
        record: T = adapter.validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        raise RecordFault(faults_of(error, kind, style)) from None
    return record


def faults_of(error: ValidationError, kind: Any, style: FaultStyle) -> list[str]:
    """Return messages for the first twenty faults that pydantic found, and how many others there are."""
    others = error.error_count() - _SHOWN
    messages = [_message(each, kind, style) for each in error.errors(include_url=False)[:_SHOWN]]
    return [*messages, f"and {others} more"] if others > 0 else messages


def load_toml(file: Path) -> dict[str, Any]:
    """Return the content of a TOML file. Raises FileFault with the reason if it cannot be read."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_TOML_BYTES + 1)
        if len(data) > MAX_TOML_BYTES:
            raise FileFault(f"has over {MAX_TOML_BYTES} bytes; a file of settings is smaller")
        return tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise FileFault(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileFault(f"is not UTF-8: {error.reason} at byte {error.start}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FileFault(f"is not TOML: {error}") from error


def _count_keys(value: object) -> int:
    """Return the number of keys of an object and the objects within it, without those in lists."""
    if not isinstance(value, dict):
        return 0
    return len(value) + sum(map(_count_keys, value.values()))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _message(error: Any, kind: Any, style: FaultStyle) -> str:
    *parents, last = error["loc"] or ("",)
    if error["type"] in _UNKNOWN:
        known = ", ".join(_keys(kind, parents))
        return _at(parents, f"has the unknown key {last[:64]!r}; known: {known}")
    if error["type"] == "missing":
        return _at(error["loc"], "is missing")
    if error["type"] == "value_error":
        what = str(error["ctx"]["error"])
    else:
        what = f"must {_expected(error, style)}, not {style.shown(error['input'])}"
    if last == _KEY:
        return _at(parents[:-1], f"has the key {parents[-1][:64]!r}, which {what.partition(', not ')[0]}")
    return _at(error["loc"], what)


def _expected(error: Any, style: FaultStyle) -> str:
    if error["type"] in _OBJECTS:
        return f"be {style.table}"
    if kind := _KINDS.get(error["type"]):
        return f"be {kind}"
    return re.sub(r"^\w+ should | after validation.*", "", error["msg"])


def _at(place: Iterable[int | str], message: str) -> str:
    return f"{'.'.join(map(str, place))} {message}".strip()


def _keys(kind: Any, place: Iterable[int | str]) -> list[str]:
    """Return the keys of the record at the path `place` within a record of the class `kind`."""
    for step in place:
        kind = _bare(kind)
        if get_args(kind):  # a mapping or a tuple; the next type is that of its items
            kind = next(each for each in reversed(get_args(kind)) if each is not Ellipsis)
        else:
            kind = get_type_hints(kind)[str(step)]
    return list(get_type_hints(_bare(kind)))


def _bare(kind: Any) -> Any:
    """Return the type within an optional type."""
    return next((each for each in get_args(kind) if NoneType in get_args(kind)), kind)
