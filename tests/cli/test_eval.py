"""`adapters eval`: what it prints, where it writes, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.store.store import Store
from onetrunk.cli.commands.eval import most_confused
from onetrunk.cli.number_format import scalar_metrics
from onetrunk.cli.output import print_rows
from onetrunk.core.testing import tiny_backbone


@pytest.fixture
def evaluate(run: Any, stocked: Path, data: Path, backbone: Path) -> Any:
    def call(ref: str, file: object, *options: object) -> Any:
        return run("eval", ref, "--data", file, "--backbone", backbone, "--precision", "fp32", *options)

    return call


@pytest.mark.parametrize(("ref", "folder"), [("mood@1", "mood"), ("names", "names")])
def test_eval_on_dev_gives_the_metrics_of_training(evaluate: Any, data: Path, ref: str, folder: str) -> None:
    done = evaluate(ref, data / folder / "dev.jsonl", "--json")
    record = json.loads(done.stdout.splitlines()[-1])
    stored = Store().resolve(ref)
    assert record["adapter"] == stored.ref
    assert record["metrics"] == pytest.approx(scalar_metrics(read_manifest(stored.path).metrics["dev"]))


def test_eval_shows_metrics_for_each_type(evaluate: Any, data: Path) -> None:
    shown = evaluate("names", data / "names" / "dev.jsonl").stdout
    assert "names@1 on" in shown
    assert "6 rows" in shown
    assert re.search(r"token accuracy +\d", shown)
    assert re.search(r"type +precision +recall +f1 +support", shown)
    assert re.search(r"LOC +\d", shown)


def test_eval_shows_metrics_for_each_label(evaluate: Any, data: Path) -> None:
    shown = evaluate("mood", data / "mood" / "test.jsonl").stdout
    assert re.search(r"label +precision +recall +f1 +support", shown)
    assert re.search(r"positive +\d", shown)


def test_metrics_without_a_value_are_null_in_json_and_a_dash_for_people(
    evaluate: Any, data: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.jsonl"
    plain.write_text('{"words": ["the", "room"], "tags": ["O", "O"]}\n')
    usual = json.loads(evaluate("names", data / "names" / "dev.jsonl", "--json").stdout)
    found = json.loads(evaluate("names", plain, "--json").stdout)
    assert found["metrics"].keys() == usual["metrics"].keys()
    assert found["metrics"]["recall"] is None
    shown = evaluate("names", plain).stdout
    assert shown.startswith(f"names@1 on {plain}, 1 row\n")
    assert re.search(r"^ *recall +-$", shown, re.MULTILINE)


def test_the_notes_of_a_task_on_the_data_are_printed(evaluate: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a LondonTown firm", "entities": [{"start": 2, "end": 8, "label": "LOC"}]}\n')
    done = evaluate("names", file, "--json")
    assert done.stderr.startswith(f"note: {file}: 1 of 1 entities begin or end inside a word")
    record = json.loads(done.stdout)
    assert (record["metrics"]["unreachable"], record["metrics"]["recall"]) == (1, 0.0)
    assert [each["kind"] for each in record["notes"]] == ["entities-inside-words"]


def test_labels_without_rows_come_last_when_there_are_many(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = {f"l{i}": {"f1": i / 40 if i else None} for i in range(40)}
    print_rows("label", rows, "--report writes all")
    shown = re.findall(r"^ *(l\d+) ", capsys.readouterr().out, re.MULTILINE)
    assert shown == [f"l{i}" for i in range(1, 31)]


def test_the_report_has_every_metric_the_data_and_the_adapter(
    evaluate: Any, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    printed = json.loads(evaluate("mood", data / "mood" / "dev.jsonl", "--report", file, "--json").stdout)
    report = json.loads(file.read_text())
    assert report["adapter"] == "mood@2"
    assert report["rows"] == 10
    assert report["sha256"] == read_manifest(Store().resolve("mood").path).data["dev"].sha256
    assert report["metrics"]["confusion"]["labels"] == ["negative", "positive"]
    assert scalar_metrics(report["metrics"]) == printed["metrics"]


@pytest.mark.parametrize("path", ["missing/report.json", "."])
def test_a_report_that_cannot_be_written_is_an_error_before_anything_is_computed(
    run: Any, stocked: Path, data: Path, tmp_path: Path, path: str
) -> None:
    # Without --backbone: had it come to computing, that would be the error.
    done = run("eval", "mood", "--data", data / "mood" / "dev.jsonl", "--report", tmp_path / path)
    assert done.exit_code == 1
    assert f"cannot write {tmp_path / path}" in done.stderr


def test_a_run_that_fails_leaves_the_report_as_it_was(
    run: Any, stocked: Path, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    file.write_text("before")
    done = run("eval", "mood", "--data", data / "mood" / "dev.jsonl", "--report", file)
    assert "give it with --backbone" in done.stderr
    assert file.read_text() == "before"
    assert not list(tmp_path.glob(".report*"))


def test_eval_on_a_folder_uses_its_test_file_and_says_so(evaluate: Any, data: Path) -> None:
    folder, file = (evaluate("mood", data / "mood" / name, "--json") for name in ("", "test.jsonl"))
    assert f"{data / 'mood'} is a folder; evaluating on {data / 'mood' / 'test.jsonl'}" in folder.stderr
    assert folder.stdout == file.stdout


def test_eval_on_a_folder_without_a_test_file_uses_its_dev_file(evaluate: Any, data: Path) -> None:
    done = evaluate("names", data / "names")
    assert done.stdout.startswith(f"names@1 on {data / 'names' / 'dev.jsonl'}, 6 rows\n")


def test_eval_counts_rows_with_an_unknown_label_as_missed(evaluate: Any, data: Path, tmp_path: Path) -> None:
    file, report = tmp_path / "odd.jsonl", tmp_path / "report.json"
    known = (data / "mood" / "dev.jsonl").read_text()
    file.write_text(known + '{"text": "so so", "label": "mixed"}\n' * 10)
    usual = json.loads(evaluate("mood", data / "mood" / "dev.jsonl", "--json").stdout)
    found = json.loads(evaluate("mood", file, "--report", report, "--json").stdout)
    assert found["metrics"]["accuracy"] == pytest.approx(usual["metrics"]["accuracy"] / 2)
    note = next(each for each in found["notes"] if each["kind"] == "unknown-labels")
    assert (note["count"], note["where"]) == (10, f"{file}:11")
    metrics = json.loads(report.read_text())["metrics"]
    assert metrics["per_label"]["mixed"] == {"precision": None, "recall": 0.0, "f1": 0.0, "support": 10}
    assert metrics["confusion"]["labels"] == ["negative", "positive", "mixed"]


def test_eval_counts_entities_of_an_unknown_type_as_missed(evaluate: Any, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "odd.jsonl"
    known = (data / "names" / "dev.jsonl").read_text()
    file.write_text(known + '{"words": ["in", "May"], "tags": ["O", "B-MONTH"]}\n')
    done = evaluate("names", file)
    assert f"note: {file}: 1 row has a label that the training data lacks: MONTH (1)" in done.stderr
    assert re.search(r"^ *MONTH +- +0.0000 +0.0000 +1$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("options", [("--strict",), ()])
def test_eval_refuses_unknown_labels_if_strict_or_if_there_are_no_others(
    evaluate: Any, tmp_path: Path, options: tuple[str, ...]
) -> None:
    file = tmp_path / "odd.jsonl"
    rows = ["positive", "mixed"] if options else ["odd", "mixed"]
    file.write_text("".join(f'{{"text": "a {label}", "label": "{label}"}}\n' for label in rows))
    done = evaluate("mood", file, "--report", tmp_path / "report.json", *options)
    assert done.exit_code == 1
    expected = f"{file}:2: 1 row has a label that the training data lacks: mixed (1)"
    assert (expected if options else f"{file}:1: unknown label 'odd'") in done.stderr
    assert not (tmp_path / "report.json").exists()


def test_eval_on_the_training_data_is_a_note(evaluate: Any, data: Path) -> None:
    done = evaluate("mood", data / "mood" / "train.jsonl")
    assert "this is the data that the adapter was trained on; the metrics are too high" in done.stderr


def test_eval_notes_labels_that_look_like_those_of_the_adapter(evaluate: Any, tmp_path: Path) -> None:
    file = tmp_path / "odd.jsonl"
    file.write_text('{"text": "a", "label": "positive"}\n{"text": "b", "label": "Negative"}\n')
    done = evaluate("mood", file)
    assert "labels look alike, but are different classes: 'Negative' (1), 'negative' (0);" in done.stderr


def test_eval_shows_the_most_confused_labels(evaluate: Any, data: Path, tmp_path: Path) -> None:
    rows = (data / "mood" / "dev.jsonl").read_text().splitlines()
    turned = [line.replace('"positive"', '"NEG"').replace('"negative"', '"positive"') for line in rows]
    file = tmp_path / "odd.jsonl"
    file.write_text("".join(line.replace("NEG", "negative") + "\n" for line in turned))
    assert re.search(
        r"^ *(positive +negative|negative +positive) +\d$", evaluate("mood", file).stdout, re.MULTILINE
    )


@pytest.mark.parametrize(
    "confusion",
    [
        {"labels": ["a", "b", "c"], "rows": [[9, 1, 0], [3, 0, 0], [0, 2, 0]]},
        {"pairs": [["a", "b", 1], ["c", "b", 2], ["b", "a", 3]]},
    ],
)
def test_the_most_confused_labels_come_first(confusion: dict[str, Any]) -> None:
    assert most_confused(confusion) == [("b", "a", 3), ("c", "b", 2), ("a", "b", 1)]


def test_eval_without_a_backbone_says_that_a_local_folder_must_be_given(
    run: Any, stocked: Path, data: Path
) -> None:
    done = run("eval", "mood", "--data", data / "mood" / "dev.jsonl")
    assert done.exit_code == 1
    assert "trained on the local folder 'tiny'" in done.stderr
    assert "--backbone" in done.stderr


def test_eval_on_another_backbone_is_refused(run: Any, stocked: Path, data: Path, tmp_path: Path) -> None:
    other = tiny_backbone(tmp_path / "other", seed=1)
    done = run("eval", "mood", "--data", data / "mood" / "dev.jsonl", "--backbone", other)
    assert done.exit_code == 1
    assert "adapter mood@2 was trained on tiny" in done.stderr


def test_an_empty_data_file_name_is_refused(evaluate: Any) -> None:
    done = evaluate("mood", "")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "--data has an empty file name" in done.stderr
