"""Where a backbone is found; each load is in a process of its own, as some settings are read at import."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from onetrunk.core.backbones.backbone import DEFAULT_BACKBONE, Backbone
from onetrunk.core.backbones.repository import OFFLINE_PACKAGE, offline_folder

LOAD = """
import sys
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import BackboneError
try:
    print(Backbone.load(sys.argv[1]).fingerprint)
except BackboneError as error:
    print(f"{type(error).__name__}: {error}")
"""


def load_elsewhere(name: str, **environment: str) -> str:
    line = [sys.executable, "-c", LOAD, name]
    run = subprocess.run(
        line, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=True
    )
    return run.stdout


def test_offline_and_not_cached_says_what_to_do(tmp_path: Path) -> None:
    found = load_elsewhere("some-org/some-bert", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert "BackboneError: backbone some-org/some-bert: it is not in the local cache" in found
    assert "pass a local folder, or go online once" in found


@pytest.mark.skipif(offline_folder() is None, reason="the extra [minilm] is not installed")
def test_a_changed_offline_package_is_refused(tmp_path: Path) -> None:
    folder = offline_folder()
    assert folder is not None
    model = shutil.copytree(folder, tmp_path / OFFLINE_PACKAGE / "model")
    shutil.copy(folder.parent / "__init__.py", tmp_path / OFFLINE_PACKAGE)
    with (model / "model.safetensors").open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    found = load_elsewhere(DEFAULT_BACKBONE, PYTHONPATH=str(tmp_path))
    assert "BackboneError" in found
    assert "upstream has 53aa51172d14" in found
    assert "reinstall the extra [minilm]" in found


def test_a_backbone_in_the_cache_is_found_offline_and_has_one_fingerprint_in_every_process(
    bert_folder: Path, bert: Backbone, tmp_path: Path
) -> None:
    cached = tmp_path / "hub" / "models--some-org--some-bert"
    shutil.copytree(bert_folder, cached / "snapshots" / ("a" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    found = load_elsewhere(
        "some-org/some-bert", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path), PYTHONHASHSEED="7"
    )
    assert found.strip() == bert.fingerprint
