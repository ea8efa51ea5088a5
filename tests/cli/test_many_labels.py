"""Labels in great number: training, storing, showing and evaluating stay bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.store.store import Store

LABELS = 1100


@pytest.fixture
def stored(run: Any, backbone: Path, tmp_path: Path) -> Path:
    """Train a sentiment adapter with 1,100 labels; return its data."""
    file = tmp_path / "many.jsonl"
    rows = [{"text": f"text {row}", "label": f"label {row % LABELS}"} for row in range(2 * LABELS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = ("train", "sentiment", "--train", file, "--dev", file, "--name", "many", "--backbone", backbone)
    done = run(*line, "--epochs", "1", "--method", "head", "--json")
    assert done.exit_code == 0, done.stderr
    assert max(map(len, done.stderr.splitlines())) < 1000
    return file


def test_an_adapter_with_a_thousand_labels_is_stored_shown_and_evaluated(
    run: Any, stored: Path, backbone: Path, tmp_path: Path
) -> None:
    version = Store().resolve("many")
    manifest = read_manifest(version.path)
    assert len(manifest.labels) == LABELS
    pairs = manifest.metrics["dev"]["confusion"]["pairs"]
    assert 0 < len(pairs) <= 1000
    assert pairs[0][2] >= pairs[-1][2]
    assert (version.path / "task.json").stat().st_size < 2**20
    shown = run("show", "many").stdout
    assert f"and {LABELS - 20} more" in shown
    report = tmp_path / "report.json"
    done = run("eval", "many", "--data", stored, "--backbone", backbone, "--report", report)
    assert done.exit_code == 0, done.stderr
    assert len(done.stdout.splitlines()) < 80
    assert "predicted as" in done.stdout
    assert len(json.loads(report.read_text())["metrics"]["per_label"]) == LABELS
