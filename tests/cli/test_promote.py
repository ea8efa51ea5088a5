"""What a name means after `adapters train` and after a plan, and what they print about it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.store.store import Store

BAD = ("--epochs", "1", "--lr", "1e-9", "--head-lr", "1e-9")


@pytest.fixture
def train(run: Any, stocked: Path, data: Path, backbone: Path) -> Any:
    """Run `adapters train sentiment` into the name `mood`, which means mood@2."""

    def call(*options: object) -> Any:
        return run(
            *("train", "sentiment", "--train", data / "mood", "--name", "mood", "--backbone", backbone),
            *options,
        )

    return call


def predicted(run: Any, backbone: Path, ref: str) -> str:
    done = run("predict", ref, "the film is good", "--backbone", backbone, "--json")
    assert done.exit_code == 0, done.stderr
    return str(json.loads(done.stdout)["adapter"])


def test_a_worse_version_is_stored_but_predict_keeps_the_one_before(
    run: Any, train: Any, backbone: Path
) -> None:
    done = train(*BAD, "--json")
    record = json.loads(done.stdout)
    before = Store().resolve("mood@2").read().manifest.metrics
    assert (record["adapter"], record["promoted"]) == ("mood@3", False)
    assert record["previous"]["adapter"] == "mood@2"
    for split in ("dev", "test"):
        assert record["previous"][split]["accuracy"] == before[split]["accuracy"] > record[split]["accuracy"]
    assert [note["kind"] for note in record["notes"]] == ["few-dev-rows", "not-promoted"]
    assert re.search(
        r"^note: mood still means mood@2: accuracy on test is 0\.\d{4}, and 1\.0000 with mood@2; "
        "`adapters promote mood@3` makes it mean mood@3$",
        done.stderr,
        re.MULTILINE,
    )
    assert predicted(run, backbone, "mood") == "mood@2"
    assert predicted(run, backbone, "mood@latest") == "mood@3"


def test_both_versions_are_in_the_table(train: Any) -> None:
    shown = train("--epochs", "8", "--lr", "0.01").stdout
    assert re.search(r"result +dev +test +dev, mood@2 +test, mood@2", shown)
    assert re.search(r"accuracy +[01]\.\d{4} +1\.0000 +[01]\.\d{4} +1\.0000", shown)
    assert "mood means mood@3 now: accuracy on test is 1.0000, and 1.0000 with mood@2" in shown


def test_promote_is_an_option(train: Any) -> None:
    assert json.loads(train(*BAD, "--promote", "always", "--json").stdout)["promoted"]
    assert Store().resolve("mood").ref == "mood@3"
    never = train("--epochs", "3", "--lr", "0.01", "--promote", "never", "--json")
    assert not json.loads(never.stdout)["promoted"]
    assert Store().resolve("mood").ref == "mood@3"
    wrong = train("--promote", "maybe")
    assert (wrong.exit_code, "'maybe' is not one of" in wrong.stderr) == (2, True)


def test_a_plan_keeps_the_better_version_unless_it_says_otherwise(
    run: Any, stocked: Path, data: Path, backbone: Path, tmp_path: Path
) -> None:
    table = f"[[adapters]]\ntask = 'sentiment'\ntrain = {json.dumps(str(data / 'mood'))}\n"
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f"backbone = {json.dumps(str(backbone))}\n[defaults]\nepochs = 1\nlr = 1e-9\nhead-lr = 1e-9\n"
        f"{table}name = 'mood'\n{table}name = 'other'\npromote = 'never'\n"
    )
    done = run("train", "--plan", plan, "--json")
    mood, never = map(json.loads, done.stdout.splitlines())
    assert (mood["adapter"], mood["promoted"], mood["previous"]["adapter"]) == ("mood@3", False, "mood@2")
    assert (never["adapter"], never["promoted"], never["previous"]) == ("other@1", False, None)
    assert "mood: stored as mood@3; note: mood still means mood@2: accuracy on test is" in done.stderr
    assert Store().resolve("mood").ref == "mood@2"
    assert "mood still means mood@2" in run("train", "--plan", plan).stdout


def test_a_plan_with_another_value_is_refused(run: Any, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("[[adapters]]\ntask = 'ner'\ntrain = 'x'\npromote = 'maybe'\n")
    assert "adapter 1: promote must" in run("train", "--plan", plan).stderr


def test_a_baseline_that_is_not_stored_moves_no_name(train: Any) -> None:
    record = json.loads(train("--method", "full", "--epochs", "1", "--json").stdout)
    assert (record["adapter"], record["promoted"], record["previous"]) == (None, False, None)
    assert Store().resolve("mood").ref == "mood@2"
