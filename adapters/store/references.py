"""References to adapters in the store: `ner`, `ner@3`, `ner@prod`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from onetrunk.adapters.errors import ReferenceSyntaxError

LATEST = "latest"
"""The reserved alias of the newest version."""
CURRENT = "current"
"""A word that is not allowed as a new alias: the current version is what the name alone means."""

MAX_VERSION = 999_999_999

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DIGITS = re.compile(r"[0-9]+")
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
)


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of an adapter, with a version, with an alias, or with neither: then it means the current version.

    Raises ReferenceSyntaxError for parts that `Reference.parse` would not accept.
    """

    name: str
    version: int | None = None
    alias: str | None = None

    def __post_init__(self) -> None:
        fault = _word_fault("the name", self.name)
        if self.version is not None and self.alias is not None:
            fault = "it has both a version and an alias"
        elif self.version is not None and not 1 <= self.version <= MAX_VERSION:
            fault = f"a version is a whole number from 1 to {MAX_VERSION}"
        elif self.alias is not None and self.alias != LATEST:
            fault = fault or _alias_fault(self.alias)
        if fault:
            raise ReferenceSyntaxError(str(self), fault)

    def __str__(self) -> str:
        """Return the text that `parse` reads back to an equal reference."""
        tail = self.alias if self.version is None else self.version
        return self.name if tail is None else f"{self.name}@{tail}"

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse `ner`, `ner@3` or `ner@prod`. Raises ReferenceSyntaxError with the reason."""
        name, at, tail = text.partition("@")
        if fault := _shape_fault(text) or _word_fault("the name", name):
            raise ReferenceSyntaxError(text, fault)
        if not at:
            return cls(name)
        if not tail:
            raise ReferenceSyntaxError(text, "nothing follows the '@'")
        if not _DIGITS.fullmatch(tail):
            return cls(name, alias=tail)
        if tail.startswith("0") or len(tail) > len(str(MAX_VERSION)):
            why = f"a version is a whole number from 1 to {MAX_VERSION} without leading zeros"
            raise ReferenceSyntaxError(text, why)
        return cls(name, version=int(tail))


def validate_name(name: str) -> str:
    """Return `name` if it is a valid adapter name. Raises ReferenceSyntaxError."""
    at = "a name cannot have an '@'" if "@" in name else None
    if fault := _shape_fault(name) or at or _word_fault("the name", name):
        raise ReferenceSyntaxError(name, fault)
    return name


def validate_alias(alias: str) -> str:
    """Return `alias` if it is a valid alias: not a number, and not `latest`. Raises ReferenceSyntaxError."""
    if fault := _alias_fault(alias):
        raise ReferenceSyntaxError(alias, fault)
    return alias


def is_name(text: str) -> bool:
    """Tell whether `text` is a valid adapter name."""
    return _word_fault("the name", text) is None


def is_alias(text: str) -> bool:
    """Tell whether `text` is a valid alias."""
    return _alias_fault(text) is None


def _alias_fault(alias: str) -> str | None:
    if fault := _word_fault("the alias", alias):
        return fault
    if _DIGITS.fullmatch(alias):
        return "an alias of digits only would be a version number"
    return "the alias 'latest' is reserved for the newest version" if alias == LATEST else None


def _shape_fault(text: str) -> str | None:
    if not text:
        return "it is empty"
    if text != text.strip():
        return "it starts or ends with white space"
    if re.fullmatch(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)+(@.*)?", text) and not text.startswith("."):
        return (
            "org/repo names an adapter on the Hub; `adapters pull` gives it a name in the store, and "
            "`adapters list` shows the names of adapters that were used without `adapters pull`"
        )
    return "it has more than one '@'" if text.count("@") > 1 else None


def _word_fault(what: str, word: str) -> str | None:
    """Return why `word` is not a valid name or alias, or None. Valid: a folder name that all platforms allow."""
    if not word:
        return f"{what} is empty"
    if "/" in word or "\\" in word or ":" in word or "\0" in word:
        return f"{what} has path characters"
    if word != word.lower():
        return f"{what} has upper-case letters; write {word.lower()!r}"
    if len(word) > 64:
        return f"{what} has {len(word)} characters, at most 64 are allowed"
    if not _NAME.fullmatch(word):
        return f"{what} may have a-z, 0-9, '.', '_' and '-', and starts with a letter or digit"
    if word.endswith("."):
        return f"{what} ends with a dot, which Windows drops"
    return f"{what} is a device on Windows" if word.partition(".")[0] in _DEVICES else None
