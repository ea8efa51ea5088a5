"""Typed access to the fields of a JSON object: every fault is noted, none raises before the whole is read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from onetrunk.adapters.format.strict_json import JSON, JSONObject, faults

_SHOWN = 20
_T = TypeVar("_T")


class Fields:
    """A JSON object of which each key is taken once; `faults` collects what is wrong, under dotted names.

    A taken value is of the right type also when the field is faulty, so that reading goes on to the end.
    """

    def __init__(self, value: JSON, at: str = "", found: list[str] | None = None) -> None:
        self._at = at
        self.faults: list[str] = [] if found is None else found
        self._sound = isinstance(value, dict)
        self._left: JSONObject = dict(value) if isinstance(value, dict) else {}
        if not self._sound and value is not _MISSING:
            self.fault("", f"must be an object, not {_shown(value)}")

    def fault(self, key: str, message: str) -> None:
        """Note `message` about the field `key`, or about the object itself."""
        where = ".".join(part for part in (self._at, key) if part)
        self.faults.append(f"{where} {message}".strip())

    def has(self, key: str) -> bool:
        """Tell whether `key` is there and not taken yet."""
        return key in self._left

    def done(self) -> None:
        """Note every key that nothing has taken."""
        for key in sorted(self._left):
            self.fault("", f"has the unknown key {key[:64]!r}")

    def summary(self) -> str:
        """Return all faults in one line, the first twenty in words."""
        rest = len(self.faults) - _SHOWN
        return "; ".join(self.faults[:_SHOWN]) + (f"; and {rest} more" if rest > 0 else "")

    def text(self, key: str, *, without: str = "") -> str:
        """Take a string that is not empty and has none of the characters of `without`."""
        value = self._take(key)
        sound = isinstance(value, str) and value != "" and not set(value) & set(without)
        if sound:
            return str(value)
        return self._expected(key, f"text{' without ' + ' '.join(without) if without else ''}", value, "")

    def optional_text(self, key: str) -> str | None:
        """Take null or a string that is not empty."""
        if key not in self._left or self._left[key] is not None:
            return self.text(key)
        return self._left.pop(key)  # type: ignore[no-any-return]

    def choice(self, key: str, options: Collection[str | None]) -> Any:
        """Take one of `options`."""
        value = self._take(key)
        if (value is None or isinstance(value, str)) and value in options:
            return value
        return self._expected(key, f"one of {', '.join(map(_shown, options))}", value, next(iter(options)))

    def whole(self, key: str, least: int = 0) -> int:
        """Take a whole number of at least `least`."""
        value = self._take(key)
        if type(value) is int and value >= least:
            return value
        return self._expected(key, f"a whole number from {least}", value, least)

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a list of strings with at least one; they may be empty or equal."""
        value = self._take(key)
        if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
            return tuple(value)
        return self._expected(key, "a list of texts, at least one", value, ())

    def items(self, key: str) -> list[JSON]:
        """Take a list of JSON."""
        value = self._take(key)
        if isinstance(value, list) and not (wrong := next(faults(value), "")):
            return value
        return self._expected(key, f"a list; it {wrong}" if isinstance(value, list) else "a list", value, [])

    def json(self, key: str) -> JSONObject:
        """Take an object of free JSON."""
        value = self._take(key)
        if isinstance(value, dict) and not (wrong := next(faults(value), "")):
            return value
        return self._expected(
            key, f"an object; it {wrong}" if isinstance(value, dict) else "an object", value, {}
        )

    def object(self, key: str) -> Fields:
        """Take an object, as fields that note their faults here; an absent one has no further faults."""
        return Fields(self._take(key), f"{self._at}.{key}" if self._at else key, self.faults)

    def objects(self, key: str, names: Collection[str] | None = None) -> dict[str, Fields]:
        """Take an object of objects, whose keys are among `names`."""
        table = self.object(key)
        keys = sorted(table._left if names is None else set(table._left) & set(names))
        found = {name: table.object(name) for name in keys}
        table.done()
        return found

    def _take(self, key: str) -> JSON:
        if key in self._left:
            return self._left.pop(key)
        if self._sound:
            self.fault(key, "is missing")
        return _MISSING

    def _expected(self, key: str, what: str, value: JSON, instead: _T) -> _T:
        if value is not _MISSING:
            self.fault(key, f"must be {what}, not {_shown(value)}")
        return instead


_MISSING: JSON = object()
"""Stands for a field that is absent, which has been noted already."""


def _shown(value: JSON) -> str:
    """Return scalars as written, shortened; of larger things only the kind."""
    if isinstance(value, list | dict):
        return "this list" if isinstance(value, list) else "this object"
    return "null" if value is None else f"{value!r:.60}"
