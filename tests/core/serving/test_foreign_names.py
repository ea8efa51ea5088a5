"""Of the libraries that serve, the product imports public names alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PUBLIC = {
    "uvicorn": ("uvicorn",),
    "starlette": (
        "starlette.exceptions",
        "starlette.middleware.cors",
        "starlette.requests",
        "starlette.responses",
        "starlette.routing",
        "starlette.types",
    ),
    "ray": (
        "ray",
        "ray.exceptions",
        "ray.serve.config",
        "ray.serve.exceptions",
        "ray.serve.handle",
        "ray.serve.request_router",
    ),
}
"""The modules of each library that its documentation names."""


def imported(file: Path) -> Iterator[tuple[str, str]]:
    """Yield each import of a file as (module, name); the name is "" for a whole module."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((each.name, "") for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from ((node.module, each.name) for each in node.names)


@pytest.mark.parametrize("library", PUBLIC)
def test_only_public_names_of_the_libraries_that_serve_are_imported(library: str) -> None:
    found = {
        (str(file.relative_to(ROOT)), module, name)
        for room in ("adapters", "core", "plugins", "cli")
        for file in (ROOT / room).rglob("*.py")
        for module, name in imported(file)
        if module.partition(".")[0] == library
    }
    assert found
    assert [each for each in found if each[1] not in PUBLIC[library] or each[2].startswith("_")] == []
