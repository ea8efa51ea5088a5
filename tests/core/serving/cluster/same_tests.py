"""Run the tests of one service again with another service."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any


def those_of(*modules: ModuleType, fixtures: set[str], but: set[str]) -> dict[str, Callable[..., Any]]:
    """Return the tests of modules, by name, that use only these `fixtures`.

    but: names of tests to leave out. Raises KeyError if one of them does not exist.
    """
    found: dict[str, Callable[..., Any]] = {
        name: test
        for module in modules
        for name, test in vars(module).items()
        if name.startswith("test_") and inspect.isfunction(test) and _needed(test) <= fixtures
    }
    for name in but:
        del found[name]
    return found


def _needed(test: Callable[..., Any]) -> set[str]:
    """Return the fixtures of a test: its arguments without those that `parametrize` provides."""
    parametrized: set[str] = set()
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            names = mark.args[0]
            parametrized |= set(names.split(",") if isinstance(names, str) else names)
    return set(inspect.signature(test).parameters) - parametrized
