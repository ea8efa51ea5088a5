"""The files of `page/`, from memory: the playground at `/`, the API's description at `/docs`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from starlette.responses import Response

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ico": "image/x-icon",
    ".png": "image/png",
}
_AT = {"index.html": "/", "docs.html": "/docs"}
"""Files that are not at their own name."""


def page_files() -> Mapping[str, tuple[bytes, str]]:
    """Return content and type of every file of the pages, by its path in a URL."""
    found: dict[str, tuple[bytes, str]] = {}
    for file in (files("onetrunk.core.serving.http") / "page").iterdir():
        media = _TYPES.get("." + file.name.rpartition(".")[2])
        if media is not None:
            found[_AT.get(file.name, f"/{file.name}")] = (file.read_bytes(), media)
    return found


def page_response(content: bytes, media: str) -> Response:
    """Return a file, which a browser may keep but asks for again."""
    return Response(content, headers={"Content-Type": media, "Cache-Control": "no-cache"})
