"""The library changes nothing that belongs to the whole process; only the commands do, whose process it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server import HubServer
from tests.stock import mood_records

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory, bert_folder: Path, deberta_folder: Path
) -> dict[str, list[str]]:
    """What each act of a process that uses the library has changed of the process."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "bert").symlink_to(bert_folder)
    (folder / "deberta").symlink_to(deberta_folder)
    rows = [f"{row['text']},{row['label']}" for row in mood_records(0, 40)]
    (folder / "mood.csv").write_text("\n".join(["text,label", *rows, ""]), encoding="utf-8")
    with HubServer() as hub:
        environment = hub.environment(cache=folder / "cache") | {
            "ONETRUNK_HOME": str(folder / "store"),
            "PYTHONPATH": f"{ROOT / 'tests' / 'ns'}:{ROOT}",
            "OMP_NUM_THREADS": "2",
        }
        del environment["HF_HUB_DISABLE_PROGRESS_BARS"]
        done = subprocess.run(
            [sys.executable, "-m", "tests.core.library_child", str(folder)],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    "act", ["load", "train", "predict", "export", "load_padded", "search", "serve", "while serving"]
)
def test_the_library_leaves_the_process_as_it_is(act: str, report: dict[str, list[str]]) -> None:
    assert report[act] == []


def test_a_command_reads_cells_of_any_length() -> None:
    code = """
import csv, sys
from onetrunk.cli.main import main
sys.argv = ["adapters", "--version"]
try:
    main()
except SystemExit:
    print(csv.field_size_limit())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == str(2**31 - 1)
