"""Tokens: the token file, and the check of the token of a request.

A token file is TOML:

[[token]]
name = "mobile"                   # shown in the log
sha256 = "…"                      # of the token, in hex; or token = "…", with at least 16 characters
scopes = ["predict"]              # some of predict, metrics and admin
adapters = ["ner", "sentiment*"]  # patterns of served names; without this key, all names
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
    SECRET_TOML_STYLE,
    RecordFault,
    Some,
    Text,
    closed,
    load_toml,
    read,
)
from onetrunk.core.errors import UnknownAdapter, UsageError
from onetrunk.core.serving.engine.errors import UnknownName
from onetrunk.core.serving.http.problems import Refusal

_MIN_CHARACTERS = 16
"""Minimum length of a token."""
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_BEARER = re.compile(rf"(?=.{{{_MIN_CHARACTERS}}})[A-Za-z0-9._~+/-]+=*")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights of a token.

    name: name of the token; None without a token.
    scopes: `predict` to use adapters; `metrics` for the metrics of the adapters; `admin` to load and unload
        adapters, and for the metrics.
    adapters: patterns of served names, as in `fnmatch`; None for all names.
    """

    name: str | None
    scopes: frozenset[str]
    adapters: tuple[str, ...] | None = None

    def covers(self, adapter: str) -> bool:
        """Return whether the served name `adapter` may be used; the name need not exist."""
        return self.adapters is None or any(fnmatchcase(adapter, pattern) for pattern in self.adapters)

    def require(self, adapter: str) -> None:
        """Raise Refusal (403) unless the served name `adapter` may be used."""
        if not self.covers(adapter):
            detail = f"this token may not use the adapter {adapter[:100]!r}"
            raise Refusal("forbidden", detail, adapter=adapter)

    def redact(self, error: Exception) -> Exception:
        """Return an error without the names of adapters that may not be used."""
        if self.adapters is None:
            return error
        if isinstance(error, UnknownName):
            return UnknownName(error.name, [name for name in error.known if self.covers(name)])
        if isinstance(error, UnknownAdapter):  # `known` has names, or versions and aliases such as ner@3
            known = [each for each in error.known if self.covers(each.partition("@")[0])]
            return UnknownAdapter(error.reference, known, Path())
        return error


_ALL_RIGHTS = Grant(None, frozenset({"predict", "metrics", "admin"}))
NO_RIGHTS = Grant(None, frozenset(), ())


class Access:
    """The tokens of a service. Without tokens, every request may do everything.

    grants: by SHA-256 digest of the token; None for a service without tokens.
    """

    def __init__(self, grants: Mapping[bytes, Grant] | None = None) -> None:
        self._grants = grants

    @classmethod
    def read(cls, file: Path) -> Access:
        """Read a token file; log a warning if other users can read it. Raises UsageError with all faults."""
        try:
            tables = read(_File, load_toml(file), SECRET_TOML_STYLE).token
        except (FileFault, RecordFault) as error:
            raise UsageError(f"{file}: {error}") from error
        if os.name == "posix" and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            _log.warning("other users can read the token file %s; run chmod 600 on it", file)
        grants: dict[bytes, Grant] = {}
        faults: list[str] = [] if tables else ["has no entry; add a table [[token]]"]
        for number, table in enumerate(tables, 1):
            name = table.get("name")
            where = f"token {name!r}" if name and isinstance(name, str) else f"token {number}"
            try:
                token = read(_Token, table, SECRET_TOML_STYLE)
            except RecordFault as error:
                faults += [f"{where}: {fault}" for fault in error.faults]
                continue
            if token.digest in grants or token.name in {own.name for own in grants.values()}:
                faults.append(f"{where} appears twice; remove one of them")
            grants[token.digest] = Grant(token.name, frozenset(token.scopes), token.adapters)
        if faults:
            raise UsageError(f"{file}: {'; '.join(faults)}")
        return cls(grants)

    @property
    def is_open(self) -> bool:
        """Whether the service has no tokens."""
        return self._grants is None

    def grant(self, authorization: str, scope: str | None = None) -> Grant:
        """Return the grant of the token in an `Authorization` header.

        authorization: value of the header; "" if it is missing.
        scope: required scope; None if any token is enough.
        Raises Refusal: 401 if the token is missing or unknown, 403 if it lacks the scope.
        """
        if self._grants is None:
            return _ALL_RIGHTS
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise _unauthorized("the request has no token; send the header Authorization: Bearer TOKEN", "")
        digest = hashlib.sha256(token.strip().encode("latin-1", "replace")).digest()
        found: Grant | None = None
        for (
            known,
            grant,
        ) in self._grants.items():  # compares all, so that the time is the same for every token
            if hmac.compare_digest(digest, known):
                found = grant
        if found is None:
            raise _unauthorized("the service does not have this token; check it", ', error="invalid_token"')
        scopes = found.scopes | ({"metrics"} if "admin" in found.scopes else set())
        if scope is not None and scope not in scopes:
            raise Refusal("forbidden", f"this token lacks the scope {scope!r}", scope=scope)
        return found


@closed
@dataclass(frozen=True, slots=True)
class _File:
    """A token file. Each table is checked separately as a `_Token`, because messages name the token."""

    token: tuple[dict[str, Any], ...] = ()


@closed
@dataclass(frozen=True, slots=True)
class _Token:
    """A table of a token file. It has either the token or its SHA-256, which no message may contain."""

    name: Text
    scopes: Annotated[tuple[Literal["predict", "metrics", "admin"], ...], Some]
    adapters: tuple[str, ...] | None = None
    sha256: str | None = None
    token: str | None = None

    def __post_init__(self) -> None:
        if (self.sha256 is None) == (self.token is None):
            raise ValueError("must have either sha256 or token")
        if self.sha256 is not None and not _HEX.fullmatch(self.sha256):
            raise ValueError("sha256 must be 64 hex digits")
        if self.token is not None and not _BEARER.fullmatch(self.token):
            raise ValueError(
                f"token must have at least {_MIN_CHARACTERS} characters: letters, digits and -._~+/="
            )

    @property
    def digest(self) -> bytes:
        token = (self.token or "").encode()
        return hashlib.sha256(token).digest() if self.sha256 is None else bytes.fromhex(self.sha256)


def _unauthorized(detail: str, error: str) -> Refusal:
    return Refusal("unauthorized", detail, {"WWW-Authenticate": f'Bearer realm="onetrunk"{error}'})
