from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import last_layers
from benchmarks.accuracy import BENCHMARKS

CHOSEN = tuple(own for own in BENCHMARKS if own.name in ("clinc150", "wnut17"))


def test_a_row_for_each_number_of_layers_and_a_dash_for_what_is_not_measured() -> None:
    run = {"metrics": {"accuracy": 0.9551}, "share": 0.0071, "seconds": 210}
    table = last_layers.table({"clinc150 last-1": run}, CHOSEN)
    assert "| 1 | 95.5 | 0.7 % | 3.5 min | – | – | – |" in table
    assert len(table.splitlines()) == 2 + len(last_layers.COUNTS)


def test_what_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def execute(line: list[str], _home: Path) -> dict[str, object]:
        asked.append(line)
        return {"metrics": {"f1": 0.5}, "share": 0.01, "seconds": 60}

    monkeypatch.setattr(last_layers, "execute", execute)
    output = tmp_path / "out.json"
    output.write_text(json.dumps({"runs": {"wnut17 last-2": execute([], tmp_path)}}))
    line = ["--data", str(tmp_path), "--output", str(output), "--sets", "wnut17"]
    assert CliRunner().invoke(last_layers.main, line, catch_exceptions=False).exit_code == 0
    layers = [own[own.index("--layers") + 1] for own in asked[1:]]
    assert layers == ["last-1", "last-3", "last-6"]
    assert len(json.loads(output.read_text())["runs"]) == 4
