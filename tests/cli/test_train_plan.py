"""`adapters train --plan`: several adapters at once, each for itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.card import CALIBRATED_ON_DEV
from onetrunk.adapters.format.artifact import read_artifact
from onetrunk.adapters.store.store import Store


@pytest.fixture
def plan(data: Path, backbone: Path, tmp_path: Path) -> Any:
    """Write a plan of tables [[adapters]] and return its file."""

    def write(*adapters: dict[str, Any]) -> Path:
        lines = [f"backbone = {json.dumps(str(backbone))}", "[defaults]", "epochs = 2", "lr = 0.01"]
        for own in adapters:
            lines += ["[[adapters]]", *(f"{key} = {json.dumps(value)}" for key, value in own.items())]
        file = tmp_path / "plan.toml"
        file.write_text("\n".join(lines))
        return file

    return write


def mood(data: Path, **more: Any) -> dict[str, Any]:
    return {"task": "sentiment", "name": "mood", "train": str(data / "mood"), **more}


def names(data: Path, **more: Any) -> dict[str, Any]:
    return {"task": "ner", "name": "names", "train": str(data / "names"), **more}


def test_every_adapter_is_stored_and_has_its_line(run: Any, plan: Any, data: Path) -> None:
    file = plan(mood(data, rank=4, seed=3), names(data, layers="last-1"))
    done = run("train", "--plan", file, "--json")
    assert done.exit_code == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["adapter"], second["adapter"]) == ("mood@1", "names@1")
    assert (first["name"], first["task"]) == ("mood", "sentiment")
    assert set(first["test"]) == {"accuracy", "macro_f1"}
    training = read_artifact(Store().resolve("mood").path).manifest.training
    assert (training["rank"], training["seed"], training["epochs"]) == (4, 3, 2)
    lines = done.stderr.splitlines()
    assert sum(line.startswith("mood: epoch") for line in lines) == 2
    assert "names: stored as names@1" in lines


def test_the_table_has_a_row_each(run: Any, plan: Any, data: Path) -> None:
    shown = run("train", "--plan", plan(mood(data), names(data))).stdout
    assert "mood@1" in shown
    assert "names@1" in shown
    assert "2 of 2 adapters trained together in" in shown


def test_notices_and_marks_name_their_adapter(run: Any, plan: Any, data: Path, tmp_path: Path) -> None:
    dev = tmp_path / "large.jsonl"  # with a threshold for `oos`
    oos = '{"text": "what is the weather", "label": "oos"}\n'
    dev.write_text((data / "mood" / "dev.jsonl").read_text() * 10 + oos * 5)
    source = str(data / "mood" / "train.jsonl")
    intents = {"task": "intent", "name": "own", "train": source, "dev": str(dev), "max_windows": 4}
    few = {"task": "intent", "name": "few", "train": source, "options.oos": "off"}
    done = run("train", "--plan", plan(mood(data), intents, few))
    assert "few: note: train: 40 rows are too few to train without the 4 held out as dev" in done.stderr
    assert "own: note: train: " not in done.stderr
    assert f"own: {CALIBRATED_ON_DEV}" in done.stdout.splitlines()
    assert f"mood: {CALIBRATED_ON_DEV}" not in done.stdout


def test_bad_data_and_divergence_end_one_adapter_alone(
    run: Any, plan: Any, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": 3}\n')
    broken = {"task": "sentiment", "name": "broken", "train": "bad.jsonl"}  # found from where the plan lies
    file = plan(
        broken, mood(data), names(data, name="wild", lr=1e38), {**mood(data), "task": "nope", "name": "none"}
    )
    done = run("train", "--plan", file, "--json")
    assert done.exit_code == 1
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["adapter"] for record in records] == [None, "mood@1", None, None]
    assert "bad.jsonl:1" in records[0]["error"]
    assert "not finite" in records[2]["error"]
    assert "no plugin has the task 'nope'" in records[3]["error"]
    assert "broken: failed: " in done.stderr
    assert [stored.ref for stored in Store().versions()] == ["mood@1"]
    assert "failed: " in run("train", "--plan", file).stdout


def test_an_adapter_may_start_from_another(run: Any, plan: Any, data: Path, stocked: Path) -> None:
    done = run("train", "--plan", plan({**mood(data), "from": "mood@1"}, names(data, name="fresh")), "--json")
    assert done.exit_code == 0, done.stderr
    assert read_artifact(Store().resolve("mood").path).manifest.parent == "mood@1"
    refused = run("train", "--plan", plan({**mood(data), "from": "mood@1", "rank": 2}), "--json")
    assert (
        "--rank cannot be combined with --from: the setting of mood@1 is kept"
        in json.loads(refused.stdout)["error"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rank", "3"], "--rank cannot be combined with --plan; set it in the plan"),
        (["sentiment"], "TASK cannot be combined with --plan"),
        (["--train", "x"], "--train cannot be combined with --plan"),
    ],
)
def test_what_the_plan_has_to_say_is_refused_beside_it(
    run: Any, plan: Any, data: Path, options: list[str], message: str
) -> None:
    done = run("train", "--plan", plan(mood(data)), *options)
    assert done.exit_code == 1
    assert message in done.stderr


@pytest.mark.parametrize(("line", "missing"), [([], "argument 'TASK'"), (["ner"], "option '--train'")])
def test_without_a_plan_task_and_data_are_needed(run: Any, line: list[str], missing: str) -> None:
    done = run("train", *line)
    assert done.exit_code == 2
    assert f"Missing {missing}" in done.stderr
