"""CORS: which web pages may call the service from a browser."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from onetrunk.core.errors import UsageError

ANY = "*"
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-fA-F:.]+\](:\d{1,5})?")


def check_origins(origins: Sequence[str], *, has_tokens: bool) -> None:
    """Raise UsageError for an origin that is not valid, and for `*` without tokens."""
    for origin in origins:
        if origin == ANY and not has_tokens:
            raise UsageError(
                "the CORS origin * lets every web page use a service without tokens; name the origins, or add a "
                "token file"
            )
        if origin != ANY and not _ORIGIN.fullmatch(origin):
            raise UsageError(
                f"invalid CORS origin {origin[:100]!r}; expected scheme, host and port only, such as "
                "https://example.org or http://localhost:3000"
            )


def with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Return `app` with the CORS headers for `origins`; `app` itself if there are none."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=["X-Request-Id", "Retry-After"],
    )
