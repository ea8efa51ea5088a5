"""`adapters quickstart`: three adapters of the package's samples, in the store and at work."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onetrunk.adapters.card import CALIBRATED_ON_DEV
from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.store.store import Store
from onetrunk.cli.commands.quickstart import SETTINGS, TEXTS
from onetrunk.cli.main import cli
from onetrunk.cli.number_format import scalar_metrics

Done = tuple[Result, Path]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Done:
    """Run it once in JSON, on the small backbone."""
    root = tmp_path_factory.mktemp("quickstart") / "store"
    return quickstart(root, backbone, "--json"), root


def quickstart(root: Path, backbone: Path, *options: str) -> Result:
    environment = {"ONETRUNK_HOME": str(root), "COLUMNS": "120"}
    return CliRunner().invoke(
        cli, ["quickstart", "--backbone", str(backbone), "--epochs", "1", *options], env=environment
    )


def test_it_stores_an_adapter_for_each_task(done: Done) -> None:
    result, root = done
    assert result.exit_code == 0, result.stderr
    expected = [f"quickstart-{task}@1" for task in sorted(SETTINGS)]
    assert [each.ref for each in Store(root).versions()] == expected


def test_its_figures_are_those_of_dev_data_that_was_not_trained_on(done: Done) -> None:
    result, root = done
    for adapter in json.loads(result.stdout)["adapters"]:
        manifest = read_manifest(Store(root).resolve(adapter["adapter"]).path)
        assert adapter["metrics"] == scalar_metrics(manifest.metrics["dev"])
        assert adapter["rows"]["dev"] == manifest.data["dev"].rows >= 60
        assert adapter["rows"]["train"] == manifest.data["train"].rows >= 240
        assert adapter["seconds"] > 0


def test_it_answers_each_text_with_every_adapter(done: Done) -> None:
    predictions = json.loads(done[0].stdout)["predictions"]
    expected = [(text, f"quickstart-{task}@1") for text in TEXTS for task in SETTINGS]
    assert [(each["text"], each["adapter"]) for each in predictions] == expected


def test_its_texts_are_not_among_the_samples() -> None:
    samples = files("onetrunk.plugins") / "samples"
    known = "".join(
        (samples / task / f"{split}.jsonl").read_text(encoding="utf-8")
        for task in SETTINGS
        for split in ("train", "dev")
    )
    assert known
    assert not [text for text in TEXTS if text in known]


def test_people_see_a_table_the_texts_and_what_to_type_next(backbone: Path, tmp_path: Path) -> None:
    shown = quickstart(tmp_path, backbone).stdout
    for task in SETTINGS:
        assert f"quickstart-{task}@1" in shown
    assert f"intent: {CALIBRATED_ON_DEV}" in shown.splitlines()
    for words in ("300, dev 75", "f1 ", "accuracy ", *TEXTS):
        assert words in shown
    assert shown.splitlines()[-2].startswith("  adapters predict quickstart-ner,quickstart-sentiment,")
    assert shown.splitlines()[-1].startswith("  adapters train ner --train")
