"""`adapters train --from`: what the adapter that training began with could do, and whether it was forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.store.store import Store

WORDS = {"cancel": ("stop", "end"), "buy": ("order", "purchase"), "greet": ("hello", "morning")}


def write(path: Path, labels: tuple[str, ...], count: int) -> Path:
    rows = [
        {"text": f"{WORDS[label][row % 2]} {row}", "label": label} for label in labels for row in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def grown(run: Any, backbone: Path, tmp_path: Path) -> Any:
    """Train support@1 on three intents; return (dev labels or None) → training on from it, on two of them."""
    common = ("--name", "support", "--backbone", backbone, "--lr", "0.02", "--patience", "0", "--json")
    every = write(tmp_path / "every.jsonl", tuple(WORDS), 12)
    first = run("train", "intent", "--train", every, "--dev", every, *common, "--epochs", "8")
    assert first.exit_code == 0, first.stderr

    def call(dev: tuple[str, ...] | None, *options: object) -> Any:
        train = write(tmp_path / "two.jsonl", ("buy", "greet"), 12)
        given = () if dev is None else ("--dev", write(tmp_path / "dev.jsonl", dev, 6))
        line = ("train", "intent", "--train", train, *given, "--from", "support@1", *common, *options)
        return run(*line)

    return call


def test_a_label_that_fades_is_measured_on_dev(grown: Any) -> None:
    done = grown(tuple(WORDS), "--epochs", "12")
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    notes = {note["kind"]: note["message"] for note in record["notes"]}
    assert "1 of the 3 labels of the adapter to continue from: cancel;" in notes["missing-parent-labels"]
    assert record["parent"]["adapter"] == "support@1"
    before, after = record["parent"]["dev"]["accuracy"], record["dev"]["accuracy"]
    assert (
        f"accuracy on dev: {before:.4f} of support@1, which training began with; {after:.4f} now"
        == notes["parent-comparison"]
    )
    recall = read_manifest(Store().resolve("support@2").path).metrics["dev"]["per_label"]["cancel"]["f1"]
    assert ("cancel 1.00 → " in notes.get("forgotten-labels", "")) == (recall < 0.8)
    assert "unmeasured-labels" not in notes


@pytest.mark.parametrize("dev", [None, ("buy", "greet")])
def test_what_dev_cannot_measure_is_said(grown: Any, dev: tuple[str, ...] | None) -> None:
    done = grown(dev, "--epochs", "1")
    message = "cannot measure what training forgot of cancel (f1 1.00): dev has no rows of these labels"
    assert message in done.stderr
    assert "the dev data of support@1, on which it had this f1, is not stored" in done.stderr


def test_a_new_adapter_has_no_parent(run: Any, backbone: Path, data: Path) -> None:
    line = ("train", "sentiment", "--train", data / "mood", "--backbone", backbone, "--epochs", "1", "--json")
    assert json.loads(run(*line).stdout)["parent"] is None
