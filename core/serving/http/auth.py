"""Who may do what: the token file, and the check of what a request carries.

[[token]]
name = "mobile"                   # for logs
sha256 = "…"                      # of the token, in hex; or  token = "…", of at least 16 characters
scopes = ["predict"]              # predict, admin
adapters = ["ner", "sentiment*"]  # patterns of the names that it may use; all when left out
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from onetrunk.core.errors import UsageError
from onetrunk.core.serving.http.problems import Refusal

SCOPES = ("predict", "admin")
LEAST_CHARACTERS = 16
"""Of a token."""
_MOST_BYTES = 2**20
_KEYS = ("name", "sha256", "token", "scopes", "adapters")
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token gives. name: of the token; None without tokens. adapters: patterns; None for every adapter."""

    name: str | None
    scopes: frozenset[str]
    adapters: tuple[str, ...] | None = None

    def covers(self, adapter: str) -> bool:
        """Tell whether the name `adapter` may be used, whether anything serves under it or not."""
        return self.adapters is None or any(fnmatchcase(adapter, pattern) for pattern in self.adapters)

    def demand(self, adapter: str) -> None:
        """Raise Refusal unless the name `adapter` may be used."""
        if not self.covers(adapter):
            raise Refusal("forbidden", f"this token may not use {adapter[:100]!r}", adapter=adapter)


EVERYTHING = Grant(None, frozenset(SCOPES))
"""What everybody has where there are no tokens."""


class Access:
    """The tokens of a service, or none: then everybody may do everything."""

    def __init__(self, grants: Mapping[bytes, Grant] | None = None) -> None:
        """grants: by the SHA-256 of the token."""
        self._grants = None if grants is None else tuple(grants.items())

    @classmethod
    def read(cls, file: Path) -> Access:
        """Read a token file. Raises UsageError that names file and entry; warns if others may read it."""
        return cls(_Reader(file).grants())

    @property
    def open(self) -> bool:
        """Whether there are no tokens."""
        return self._grants is None

    def grant(self, authorization: str | None, scope: str | None = None) -> Grant:
        """Return what the header `Authorization` gives. Raises Refusal: 401 without a token that is known, 403 for
        one without `scope`."""
        if self._grants is None:
            return EVERYTHING
        grant = self._known(authorization)
        if scope is not None and scope not in grant.scopes:
            raise Refusal("forbidden", f"this token does not have the scope {scope}", scope=scope)
        return grant

    def _known(self, authorization: str | None) -> Grant:
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise _unauthorized("send a token: Authorization: Bearer TOKEN", "")
        digest = _digest(token.strip().encode("latin-1", "replace"))  # as headers are read
        found: Grant | None = None
        for known, grant in self._grants or ():  # all of them, so that the time tells nothing
            if hmac.compare_digest(digest, known):
                found = grant
        if found is None:
            raise _unauthorized("this token is not known", ', error="invalid_token"')
        return found


def _unauthorized(detail: str, error: str) -> Refusal:
    return Refusal("unauthorized", detail, {"WWW-Authenticate": f'Bearer realm="onetrunk"{error}'})


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


class _Reader:
    """Reads a token file; every fault is found before any is told."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._faults: list[str] = []

    def grants(self) -> dict[bytes, Grant]:
        content = self._content()
        entries = content.pop("token", [])
        self._faults += [f"unknown key {key!r}; expected [[token]]" for key in content]
        grants: dict[bytes, Grant] = {}
        if not isinstance(entries, list) or not entries:
            self._faults.append("no [[token]] in it")
            entries = []
        for number, entry in enumerate(entries, 1):
            where = self._where(entry, number)
            digest, grant = self._digest(entry, where), self._grant(entry, where)
            if digest in grants or grant.name in {own.name for own in grants.values()}:
                self._faults.append(f"{where} is there twice")
            grants[digest] = grant
        if self._faults:
            raise UsageError(f"{self._file}: {'; '.join(self._faults)}")
        return grants

    def _content(self) -> dict[str, Any]:
        try:
            with self._file.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise UsageError(f"{self._file}: cannot be read: {error.strerror}") from error
        if len(data) > _MOST_BYTES:
            raise UsageError(f"{self._file}: has over {_MOST_BYTES} bytes")
        if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
            _log.warning("others may read the token file %s; chmod 600 it", self._file)
        try:
            return tomllib.loads(data.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise UsageError(f"{self._file}: is not UTF-8: {error.reason} at byte {error.start}") from error
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{self._file}: is not TOML: {error}") from error

    def _where(self, entry: Any, number: int) -> str:
        name = entry.get("name") if isinstance(entry, dict) else None
        return f"token {name!r}" if isinstance(name, str) and name else f"token {number}"

    def _grant(self, entry: Any, where: str) -> Grant:
        if not isinstance(entry, dict):
            self._faults.append(f"{where} must be a table, [[token]]")
            return EVERYTHING
        self._faults += [
            f"{where} has the unknown key {key!r}; known: {', '.join(_KEYS)}"
            for key in entry
            if key not in _KEYS
        ]
        if not isinstance(entry.get("name"), str) or not entry["name"]:
            self._faults.append(f"{where} needs a name, for the log")
        scopes = self._texts(entry, "scopes", where) or ()
        if not scopes or not set(scopes) <= set(SCOPES):
            self._faults.append(f"{where}: scopes must be some of {', '.join(SCOPES)}")
        patterns = self._texts(entry, "adapters", where)
        return Grant(str(entry.get("name")), frozenset(scopes), patterns)

    def _texts(self, entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...] | None:
        value = entry.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self._faults.append(f"{where}: {key} must be a list of strings")
            return ()
        return tuple(value)

    def _digest(self, entry: Any, where: str) -> bytes:
        given: Sequence[str] = [
            key for key in ("sha256", "token") if isinstance(entry, dict) and key in entry
        ]
        if len(given) != 1:
            self._faults.append(f"{where} needs sha256 or token, one of them")
            return where.encode()
        value = entry[given[0]]
        if given[0] == "sha256" and isinstance(value, str) and _HEX.fullmatch(value):
            return bytes.fromhex(value)
        if given[0] == "sha256":
            self._faults.append(f"{where}: sha256 must be 64 hex digits")
        elif not isinstance(value, str) or len(value) < LEAST_CHARACTERS or not _is_bearer(value):
            self._faults.append(
                f"{where}: token must have at least {LEAST_CHARACTERS} characters, letters, digits and -._~+/="
            )
        else:
            return _digest(value.encode())
        return where.encode()


def _is_bearer(token: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", token) is not None
