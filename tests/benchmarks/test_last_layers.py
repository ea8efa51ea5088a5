from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from benchmarks import last_layers
from benchmarks.accuracy import BENCHMARKS

CHOSEN = tuple(own for own in BENCHMARKS if own.name in ("clinc150", "wnut17"))


def test_a_row_for_each_number_of_layers_and_a_dash_for_what_is_not_measured() -> None:
    run = {"metrics": {"accuracy": 0.9551}, "share": 0.0071, "seconds": 210}
    table = last_layers.table({"clinc150 last-1": run}, CHOSEN)
    assert "| 1 | 95.5 | 0.7 % | 3.5 min | – | – | – |" in table
    assert len(table.splitlines()) == 2 + len(last_layers.COUNTS)


def test_what_is_known_is_shown_and_not_measured_again(tmp_path: Path) -> None:
    run = {"metrics": {"f1": 0.5}, "share": 0.01, "seconds": 60}
    output = tmp_path / "out.json"
    known = {f"wnut17 last-{count}": run for count in last_layers.COUNTS}
    output.write_text(json.dumps({"runs": known}))
    line = ["--data", str(tmp_path), "--output", str(output), "--sets", "wnut17"]
    shown = CliRunner().invoke(last_layers.main, line, catch_exceptions=False)
    assert shown.output.count("50.0") == len(last_layers.COUNTS)
    assert json.loads(output.read_text()) == {"runs": known}
