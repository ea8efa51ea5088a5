"""Private and new operators of torch: which releases have them, and that nothing else uses them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from packaging.version import Version

from onetrunk.core.backbones.kernels import KERNELS, has_kernels

ROOT = Path(__file__).resolve().parents[3]
TESTED = ("2.11", "2.12", "2.13")
"""Releases of torch that have all operators (the first and the last were looked at). Before a new one is added, run
all tests with it."""


@pytest.mark.parametrize("feature", KERNELS)
def test_the_installed_torch_has_the_operators_of_every_feature(feature: str) -> None:
    assert has_kernels(feature)


def test_the_installed_torch_is_a_release_that_was_tested() -> None:
    version = Version(torch.__version__)
    assert f"{version.major}.{version.minor}" in TESTED


@pytest.mark.parametrize("room", ["adapters", "core", "plugins", "cli"])
def test_no_other_module_names_such_an_operator(room: str) -> None:
    names = {name.rpartition(":")[2].rpartition(".")[2] for own in KERNELS.values() for name in own}
    others = [path for path in (ROOT / room).rglob("*.py") if path.name != "kernels.py"]
    found = [
        f"{path}:{node.lineno}: {node.attr}"
        for path in others
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in names
    ]
    assert found == []
