"""`adapters train`: what it prints, what it stores, and what it refuses before it starts."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.card import CALIBRATED_ON_DEV
from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.store.store import Store
from onetrunk.cli.commands.train import command
from onetrunk.core.testing import tiny_backbone
from onetrunk.core.training.settings import TrainSettings

FAST = ("--epochs", "2", "--lr", "0.01")


@pytest.fixture
def train(run: Any, data: Path, backbone: Path) -> Any:
    """Run `adapters train sentiment` on the mood data; options given later win."""

    def call(
        *options: object, task: str = "sentiment", source: object = None, input: str | bytes | None = None
    ) -> Any:
        place = data / "mood" if source is None else source
        line = ("train", task, "--train", place, "--name", "mood", "--backbone", backbone, *FAST, *options)
        return run(*line, input=input)

    return call


def test_json_is_the_only_line_on_stdout_and_names_what_was_stored(train: Any) -> None:
    done = train("--json")
    assert done.exit_code == 0, done.stderr
    [line] = done.stdout.splitlines()
    record = json.loads(line)
    [stored] = Store().versions()
    assert record["adapter"] == stored.ref == "mood@1"
    assert set(record["metrics"]) == set(record["dev"]) == set(record["test"]) == {"accuracy", "macro_f1"}
    manifest = read_manifest(stored.path)
    assert record["parameters"] == manifest.parameters.trained
    assert record["share"] == pytest.approx(manifest.parameters.trained / manifest.parameters.backbone)


def test_metrics_in_json_are_those_of_test_if_given_else_of_dev(train: Any, data: Path) -> None:
    with_test = json.loads(train("--json").stdout)
    mood = data / "mood"
    without = json.loads(train("--json", "--dev", mood / "dev.jsonl", source=mood / "train.jsonl").stdout)
    assert with_test["metrics"] == with_test["test"]
    assert without["metrics"] == without["dev"]
    assert without["test"] is None


def test_the_table_shows_results_cost_and_reference(train: Any) -> None:
    shown = train().stdout
    for words in ("accuracy", "macro_f1", "dev", "test", "loss", "trained", "tokens/s", "wall time"):
        assert words in shown
    assert re.search(r"stored +mood@1", shown)


def test_each_epoch_is_one_plain_line_on_stderr_where_no_terminal_is(train: Any) -> None:
    lines = [line for line in train().stderr.splitlines() if not line.startswith("note: ")]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    assert all(re.search(r"loss \d.*dev accuracy \d", line) for line in lines)


def test_on_a_terminal_there_is_a_bar_with_speed_loss_and_time_to_go(
    train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    done = train("--epochs", "20", "--patience", "0", "--json")
    assert re.search(r"epoch \d+/20.*tokens/s.*loss.*ETA", done.stderr)
    assert len(done.stdout.splitlines()) == 1


def test_a_second_training_is_the_next_version(train: Any) -> None:
    assert [json.loads(train("--json").stdout)["adapter"] for _ in range(2)] == ["mood@1", "mood@2"]


def test_the_name_is_that_of_the_task_by_default(run: Any, data: Path, backbone: Path) -> None:
    run("train", "sentiment", "--train", data / "mood", "--backbone", backbone, *FAST)
    assert [each.ref for each in Store().versions()] == ["sentiment@1"]


def test_without_dev_data_a_tenth_is_held_out_and_said_so(train: Any, data: Path) -> None:
    done = train(source=data / "mood" / "train.jsonl")
    assert "4 of 40 rows" in done.stderr
    assert "held out as dev" in done.stderr


@pytest.mark.parametrize(("rows", "all_rows"), [(190, True), (1000, False)])
def test_few_rows_without_dev_data_are_all_trained_on_and_a_note_says_so(
    train: Any, data: Path, tmp_path: Path, rows: int, all_rows: bool
) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text((data / "mood" / "train.jsonl").read_text() * (rows // 10))
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:rows]))
    done = train("--epochs", "1", "--json", source=file)
    record = json.loads(done.stdout)
    assert f"{rows // 10} of {rows} rows" in done.stderr
    assert ("the adapter is trained on all rows for 1 epochs" in done.stderr) == all_rows
    assert ("few-rows" in [note["kind"] for note in record["notes"]]) == all_rows
    assert (record["all_rows"], record["selected_by"]) == (all_rows, "last" if all_rows else "metric")
    [stored] = Store().versions()
    assert read_manifest(stored.path).training["all_rows"] == all_rows


def test_a_dev_file_of_few_rows_is_the_users_choice(train: Any) -> None:
    assert "fewer than" not in train().stderr


def test_what_a_task_notes_on_the_data_is_told_for_each_file(
    run: Any, backbone: Path, tmp_path: Path
) -> None:
    line = '{"text": "in London or LondonTown", "entities": [[3, 9, "LOC"], [13, 19, "LOC"]]}\n'
    for split in ("train", "dev"):
        (tmp_path / f"{split}.jsonl").write_text(line * 4)
    done = run("train", "ner", "--train", tmp_path, "--backbone", backbone, *FAST)
    assert done.exit_code == 0, done.stderr
    for split in ("train", "dev"):
        told = f"note: {tmp_path / split}.jsonl: 4 of 8 entities begin or end inside a word"
        assert [note.startswith(told) for note in done.stderr.splitlines()].count(True) == 1


@pytest.fixture
def large_dev(data: Path, tmp_path: Path) -> Path:
    """Dev data of the task intent with at least 50 rows in scope and five `oos` rows."""
    rows = (data / "mood" / "dev.jsonl").read_text() * 10
    file = tmp_path / "large.jsonl"
    file.write_text(rows + '{"text": "what is the weather", "label": "oos"}\n' * 5)
    return file


def test_dev_figures_of_a_calibrated_decoder_are_marked(train: Any, large_dev: Path) -> None:
    assert CALIBRATED_ON_DEV in train("--dev", large_dev, task="intent").stdout.splitlines()
    assert CALIBRATED_ON_DEV not in train().stdout


def test_an_intent_without_oos_rows_gets_no_threshold_and_a_note_says_so(train: Any) -> None:
    done = train("--json", task="intent")
    assert "no text will be answered 'oos': dev has no rows with the label 'oos'" in done.stderr
    assert "decoder" in [note["kind"] for note in json.loads(done.stdout)["notes"]]
    [stored] = Store().versions()
    assert read_manifest(stored.path).settings == {}


def test_the_option_oos_off_gives_no_threshold_and_no_note(train: Any, large_dev: Path) -> None:
    done = train("--json", "--dev", large_dev, "--set", "oos=off", task="intent")
    assert "decoder" not in [note["kind"] for note in json.loads(done.stdout)["notes"]]
    manifest = read_manifest(Store().versions()[0].path)
    assert (manifest.settings, manifest.training["options"]) == ({}, {"oos": "off"})


@pytest.mark.parametrize(
    ("task", "option", "message"),
    [
        ("intent", "oos=maybe", "error: task 'intent': the option 'oos' is 'maybe'; expected auto or off"),
        ("sentiment", "oos=off", "error: task 'sentiment' has no options; leave out oos"),
        ("intent", "oos", "'oos' is not KEY=VALUE with a new key, such as oos=off"),
    ],
)
def test_an_invalid_option_of_a_task_is_refused(train: Any, task: str, option: str, message: str) -> None:
    done = train("--set", option, task=task)
    assert done.exit_code != 0
    assert message in done.stderr


def test_task_json_has_the_precision_and_the_pooling_that_were_used(train: Any) -> None:
    assert train("--precision", "auto", "--pooling", "auto").exit_code == 0
    manifest = read_manifest(Store().versions()[0].path)
    used = manifest.training
    assert used["precision"] in ("fp32", "bf16")
    assert used["pooling"] == manifest.pooling
    assert used["pooling"] in ("cls", "mean")
    assert (used["selected_by"], used["patience"], used["epochs_run"]) == ("loss", 0, 2)


def test_stdin_can_be_trained_on(train: Any, data: Path) -> None:
    done = train("--json", source="-", input=(data / "mood" / "train.jsonl").read_text())
    assert json.loads(done.stdout)["adapter"] == "mood@1"


def test_gzipped_stdin_is_the_same_data(train: Any, data: Path) -> None:
    raw = (data / "mood" / "train.jsonl").read_bytes()
    for each in (raw, gzip.compress(raw)):
        assert train("--json", source="-", input=each).exit_code == 0
    first, second = (read_manifest(stored.path).data["train"] for stored in Store().versions())
    assert first == second


def test_settings_of_the_command_line_reach_the_artifact(train: Any) -> None:
    train("--rank", "4", "--alpha", "8", "--targets", "value, query", "--layers", "last-1", "--seed", "7")
    training = read_manifest(Store().resolve("mood").path).training
    assert [training[key] for key in ("rank", "alpha", "layers", "seed")] == [4, 8, "last-1", 7]
    assert training["targets"] == ["query", "value"]


def test_every_setting_is_an_option_with_its_default() -> None:
    options = {parameter.name: parameter for parameter in command.params}
    missing = [
        field.name
        for field in fields(TrainSettings)
        if field.name != "options" and options[field.name].default != field.default
    ]
    assert not missing


def test_from_keeps_labels_and_records_the_parent(train: Any, stocked: Path) -> None:
    done = train("--from", "mood@1", "--json")
    manifest = read_manifest(Store().resolve(json.loads(done.stdout)["adapter"]).path)
    assert manifest.parent == "mood@1"
    assert manifest.labels == read_manifest(Store().resolve("mood@1").path).labels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", "names"), "names@1 is an adapter for task ner, not for sentiment"),
        (
            ("--from", "mood", "--rank", "4"),
            "--rank cannot be combined with --from: the setting of mood@2 is kept",
        ),
        (("--from", "mood@9"), "no adapter 'mood@9'"),
    ],
)
def test_from_refuses_what_does_not_fit(
    train: Any, stocked: Path, options: tuple[str, ...], message: str
) -> None:
    done = train(*options)
    assert done.exit_code == 1
    assert message in done.stderr


def test_from_refuses_labels_that_the_parent_lacks(train: Any, stocked: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "a room", "label": "mixed"}\n' * 20)
    done = train("--from", "mood", source=other)
    assert done.exit_code == 1
    assert f"{other}:1: unknown label 'mixed'" in done.stderr


def test_method_full_stores_nothing_and_says_so(train: Any) -> None:
    shown = train("--method", "full", "--lr", "0.001").stdout
    assert "not stored: method full is a baseline" in shown
    assert json.loads(train("--method", "full", "--lr", "0.001", "--json").stdout)["adapter"] is None
    assert Store().versions() == []


BAD_LINES = {
    "invalid JSON": ('{"text": "a", "label": "b"}\n{"text": \n', r":2: invalid JSON"),
    "one label": ('{"text": "a", "label": "b"}\n' * 9, r"at least two labels"),
    "no label": ('{"text": "a"}\n', r"label"),
    "empty": ("", r"no records"),
}


@pytest.mark.parametrize("fault", BAD_LINES)
def test_faulty_data_is_an_error_before_anything_is_trained(train: Any, tmp_path: Path, fault: str) -> None:
    text, message = BAD_LINES[fault]
    file = tmp_path / "train.jsonl"
    file.write_text(text)
    done = train(source=file)
    assert done.exit_code == 1
    assert re.match(rf"error: {file}.*{message}", done.stderr)
    assert "epoch" not in done.stderr
    assert Store().versions() == []


def test_each_faulty_line_is_a_line_of_the_error(train: Any, tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"text": "a\\u001b[2J", "label": ["b", "c"]}\n{"text": 1}\n')
    first, second = train(source=file).stderr.splitlines()
    assert first.startswith(f"error: {file}:1: ")
    assert second.startswith(f"  {file}:2: ")


def test_a_store_that_cannot_be_written_is_told_before_anything_is_trained(
    train: Any, home: Path, tmp_path: Path
) -> None:
    home.write_text("a file")
    done = train()
    assert done.exit_code == 1
    assert "cannot write to the store" in done.stderr
    assert "epoch" not in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dev", ""), "--dev or --test has an empty file name"),
        (("--name", ""), "it is empty"),
        (("--rank", "0"), "rank must be 1 to 1024, not 0"),
        (("--name", "No Name"), "is not a reference"),
        (("--dev", "-", "--test", "-"), "only one of --train, --dev and --test can read stdin"),
        (("--device", "tpu9"), "device 'tpu9' is"),
    ],
)
def test_contradictory_settings_are_one_line(train: Any, options: tuple[str, ...], message: str) -> None:
    done = train(*options)
    assert done.exit_code == 1
    assert message in done.stderr


def test_an_unknown_task_names_those_on_offer(train: Any) -> None:
    done = train(task="tagging")
    assert done.exit_code == 1
    assert re.search("no plugin has the task 'tagging'; known: .*ner", done.stderr)


def test_an_unknown_module_is_told_with_those_of_the_backbone(train: Any) -> None:
    done = train("--targets", "query,foo")
    assert done.exit_code == 1
    assert "the backbone has no module 'foo'; known: all, query" in done.stderr
    assert Store().versions() == []


def test_a_slower_backbone_is_said_in_one_line_and_its_adapter_predicts(
    adapters: Any, run: Any, data: Path, tmp_path: Path
) -> None:
    folder = tiny_backbone(tmp_path / "modern", model_type="modernbert")
    options = ("--train", str(data / "mood"), "--name", "mood", "--backbone", str(folder), "--targets", "qkv")
    done = adapters("train", "sentiment", *options, *map(str, FAST))
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith(("epoch", "note: dev"))] == [
        "modernbert encoders have no packed form: transformers runs this one over padded batches, one adapter at a "
        "time, which is slower and gives the same results"
    ]
    assert read_manifest(Store().resolve("mood").path).training["targets"] == ["qkv"]
    shown = run("predict", "mood", "the film is good", "--backbone", folder, "--json")
    assert shown.exit_code == 0, (shown.stderr, shown.exception)
    assert json.loads(shown.stdout)["label"] in ("negative", "positive")


def test_a_missing_name_of_a_module_is_wrong_usage(train: Any) -> None:
    done = train("--targets", "query,")
    assert done.exit_code == 2
    assert "a name is missing; known: all, query" in done.stderr


EAR = """
from onetrunk.core.tasks.hookspecs import hookimpl

def note(line):
    with open({file!r}, "a") as file:
        print(line, file=file)

@hookimpl
def training_step(event):
    note(f"step {event.step}")

@hookimpl
def training_epoch(event):
    note(f"epoch {event.epoch}")
"""


def test_plugins_hear_of_steps_and_epochs(
    train: Any, site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = tmp_path / "heard"
    site.install("ear", EAR.replace("{file!r}", repr(str(heard))))
    monkeypatch.syspath_prepend(site.folder)
    assert train().exit_code == 0
    assert heard.read_text().splitlines() == ["step 1", "epoch 1", "step 2", "epoch 2"]


def test_ctrl_c_ends_with_130_and_leaves_the_store_as_it_was(home: Path, data: Path, backbone: Path) -> None:
    files = ("--train", str(data / "mood"), "--backbone", str(backbone))
    line = [sys.executable, "-m", "onetrunk.cli.main", "train", "sentiment", *files, "--patience", "0"]
    with subprocess.Popen([*line, "--epochs", "9999"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(line.startswith("epoch") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        *_, last = process.stderr
        assert last == "interrupted\n"
    assert process.returncode == 130
    assert Store().versions() == []


def test_help_has_an_example_and_loads_no_torch() -> None:
    source = (
        "import sys; from onetrunk.cli.main import run; run(['train', '-h']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert "adapters train ner --train" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"
