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
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from onetrunk.adapters.format.files import FileFault
from onetrunk.adapters.format.records import (
    SECRET_TOML_WORDS,
    RecordFault,
    Some,
    Text,
    closed,
    load_toml,
    read,
)
from onetrunk.core.errors import UsageError
from onetrunk.core.serving.http.problems import Refusal

SCOPES = ("predict", "admin")
LEAST_CHARACTERS = 16
"""Of a token."""
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_BEARER = re.compile(rf"(?=.{{{LEAST_CHARACTERS}}})[A-Za-z0-9._~+/-]+=*")
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

    def require(self, adapter: str) -> None:
        """Raise Refusal unless the name `adapter` may be used."""
        if not self.covers(adapter):
            raise Refusal("forbidden", f"this token may not use {adapter[:100]!r}", adapter=adapter)


UNRESTRICTED = Grant(None, frozenset(SCOPES))
"""What everybody has where there are no tokens."""


class Access:
    """The tokens of a service, or none: then everybody may do everything."""

    def __init__(self, grants: Mapping[bytes, Grant] | None = None) -> None:
        """grants: by the SHA-256 of the token."""
        self._grants = None if grants is None else tuple(grants.items())

    @classmethod
    def read(cls, file: Path) -> Access:
        """Read a token file. Raises UsageError that names file and entry; warns if others may read it."""
        return cls(_grants(file))

    @property
    def is_open(self) -> bool:
        """Whether there are no tokens."""
        return self._grants is None

    def grant(self, authorization: str | None, scope: str | None = None) -> Grant:
        """Return what the header `Authorization` gives. Raises Refusal: 401 without a token that is known, 403 for
        one without `scope`."""
        if self._grants is None:
            return UNRESTRICTED
        grant = self._find(authorization)
        if scope is not None and scope not in grant.scopes:
            raise Refusal("forbidden", f"this token does not have the scope {scope}", scope=scope)
        return grant

    def _find(self, authorization: str | None) -> Grant:
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


@closed
@dataclass(frozen=True, slots=True)
class _File:
    """A token file; each of its tables is read by itself, as a `_Token`."""

    token: tuple[dict[str, Any], ...] = ()


@closed
@dataclass(frozen=True, slots=True)
class _Token:
    """One entry of a token file, which has the token or its sha256. Messages never have a value of it."""

    name: Text
    scopes: Annotated[tuple[Literal["predict", "admin"], ...], Some]
    adapters: tuple[str, ...] | None = None
    sha256: str | None = None
    token: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for what is not a token."""
        if (self.sha256 is None) == (self.token is None):
            raise ValueError("needs sha256 or token, one of them")
        if self.sha256 is not None and not _HEX.fullmatch(self.sha256):
            raise ValueError("sha256 must be 64 hex digits")
        if self.token is not None and not _BEARER.fullmatch(self.token):
            raise ValueError(
                f"token must have at least {LEAST_CHARACTERS} characters, letters, digits and -._~+/="
            )

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the token."""
        return _digest((self.token or "").encode()) if self.sha256 is None else bytes.fromhex(self.sha256)


def _unauthorized(detail: str, error: str) -> Refusal:
    return Refusal("unauthorized", detail, {"WWW-Authenticate": f'Bearer realm="onetrunk"{error}'})


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _grants(file: Path) -> dict[bytes, Grant]:
    """Return what the tokens of a file give. Raises UsageError that lists every fault."""
    try:
        tables = read(_File, load_toml(file), SECRET_TOML_WORDS).token
    except (FileFault, RecordFault) as error:
        raise UsageError(f"{file}: {error}") from error
    if os.name == "posix" and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        _log.warning("others may read the token file %s; chmod 600 it", file)
    grants: dict[bytes, Grant] = {}
    faults: list[str] = [] if tables else ["has no table [[token]]"]
    for number, table in enumerate(tables, 1):
        name = table.get("name")
        where = f"token {name!r}" if name and isinstance(name, str) else f"token {number}"
        try:
            token = read(_Token, table, SECRET_TOML_WORDS)
        except RecordFault as error:
            faults += [f"{where}: {fault}" for fault in error.faults]
            continue
        if token.digest in grants or token.name in {own.name for own in grants.values()}:
            faults.append(f"{where} is there twice")
        grants[token.digest] = Grant(token.name, frozenset(token.scopes), token.adapters)
    if faults:
        raise UsageError(f"{file}: {'; '.join(faults)}")
    return grants
