from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(bert_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny BERT that a test may spoil."""
    return shutil.copytree(bert_folder, tmp_path / "copy")
