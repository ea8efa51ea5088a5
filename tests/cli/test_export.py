"""`adapters export`, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.mark.parametrize("form", ["peft", "merged"])
def test_an_adapter_is_exported_and_said_to_be_checked(
    form: str, stocked: Path, backbone: Path, run: Run, tmp_path: Path
) -> None:
    done = run("export", "names", tmp_path / "out", "--format", form, "--backbone", backbone)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"exported names@1 to {tmp_path / 'out'}")
    listed = {line.split()[0] for line in done.stdout.splitlines()[1:] if "B" in line}
    assert listed == {path.name for path in (tmp_path / "out").iterdir()}
    assert "the logits differ by at most" in done.stdout
    assert "comparing its logits with OneTrunk's" in done.stderr
    assert (tmp_path / "out" / "README.md").is_file()


def test_a_script_gets_json(stocked: Path, backbone: Path, run: Run, tmp_path: Path) -> None:
    done = run("export", "mood@1", tmp_path / "out", "--format", "peft", "--backbone", backbone, "--json")
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["adapter"], record["format"], record["folder"]) == (
        "mood@1",
        "peft",
        str(tmp_path / "out"),
    )
    assert record["difference"] < 1e-4
    assert record["files"].keys() == {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing", "DIR", "--format", "peft"), "no adapter 'nothing' in the store"),
        (("names", "DIR/more", "--format", "peft", "--backbone", "B"), "out does not exist; create it"),
        (("names", ".", "--format", "peft", "--backbone", "B"), "is not empty"),
        (("names", "DIR", "--format", "peft"), "give it with --backbone PATH"),
    ],
)
def test_what_cannot_be_exported_ends_in_one_line(
    arguments: tuple[str, ...], message: str, stocked: Path, backbone: Path, run: Run, tmp_path: Path
) -> None:
    names = {"DIR": tmp_path / "out", "DIR/more": tmp_path / "out" / "more", "B": backbone}
    done = run("export", *(names.get(each, each) for each in arguments))
    assert done.exit_code == 1
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_help_has_an_example(run: Run) -> None:
    assert "adapters export ner@prod ner-peft --format peft" in run("export", "--help").stdout


def test_a_format_is_asked_for(run: Run, tmp_path: Path) -> None:
    done = run("export", "names", tmp_path / "out")
    assert "Missing option '--format'" in done.stderr + done.stdout
