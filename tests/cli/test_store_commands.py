"""`adapters list`, `show`, `alias` and `remove`: what they tell of the store, and how they change it."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from onetrunk.adapters.store.store import Store

KEYS = {
    "name", "version", "ref", "aliases", "task", "metrics", "path", "created", "parent", "labels", "backbone",
    "bytes", "error", "origin", "cached", "current"}  # fmt: skip


def refs() -> list[str]:
    return [each.ref for each in Store().versions()]


def test_list_in_json_has_a_record_for_each_version(run: Any, stocked: Path) -> None:
    records = json.loads(run("list", "--json").stdout)
    assert [record["ref"] for record in records] == ["mood@1", "mood@2", "names@1"]
    assert all(set(record) == KEYS for record in records)
    second = records[1]
    assert (second["task"], second["parent"], second["error"]) == ("sentiment", "mood@1", None)
    assert second["labels"] == ["negative", "positive"]
    assert set(second["metrics"]) == {"accuracy", "macro_f1"}
    assert Path(second["path"], "task.json").is_file()


def test_list_shows_the_main_metric_of_each_task(run: Any, stocked: Path) -> None:
    shown = run("list").stdout
    assert re.search(r"mood@2 +yes +sentiment +accuracy \d\.\d{4} \(test\) +\d+\.\d kB +2\d{3}-", shown)
    assert re.search(r"names@1 +yes +ner +f1 \d\.\d{4} \(dev\)", shown)


def test_list_of_a_name_has_its_versions_alone(run: Any, stocked: Path) -> None:
    assert [record["ref"] for record in json.loads(run("list", "names", "--json").stdout)] == ["names@1"]


def test_list_of_a_name_that_is_not_there_names_what_is(run: Any, stocked: Path) -> None:
    done = run("list", "other")
    assert done.exit_code == 1
    assert "no adapter 'other'" in done.stderr
    assert "mood, names" in done.stderr


def test_an_empty_store_says_how_to_begin(run: Any) -> None:
    assert "adapters quickstart" in run("list").stdout
    assert run("list", "--json").stdout == "[]\n"


def test_a_broken_version_is_listed_with_its_reason_and_stops_nothing(run: Any, stocked: Path) -> None:
    (stocked / "mood" / "1" / "task.json").write_text("{")
    done = run("list")
    assert done.exit_code == 0
    assert re.search(r"mood@1 +broken", done.stdout)
    assert re.search(r"mood@1: .*task\.json is not JSON", done.stdout)
    assert re.search(r"mood@2 +yes +sentiment", done.stdout)
    broken, sound, _ = json.loads(run("list", "--json").stdout)
    assert set(broken) == KEYS
    assert "task.json" in broken["error"]
    assert sound["error"] is None


def test_a_damaged_index_is_an_error_after_the_others_are_listed(run: Any, stocked: Path) -> None:
    (stocked / "mood" / "adapter.json").write_text("{")
    done = run("list", "--json")
    assert [record["ref"] for record in json.loads(done.stdout)] == ["names@1"]
    assert done.exit_code == 1
    assert re.match(r"error: .*mood/adapter\.json is not JSON", done.stderr)


def test_list_marks_an_adapter_whose_plugin_is_gone_by_its_first_metric(run: Any, stocked: Path) -> None:
    file = stocked / "names" / "1" / "task.json"
    file.write_text(file.read_text().replace('"task": "ner"', '"task": "gone"'))
    assert re.search(r"names@1 +yes +gone +\w+ \d\.\d{4}", run("list").stdout)


def test_show_in_json_is_the_manifest_with_its_place(run: Any, stocked: Path) -> None:
    Store().alias("mood", "prod", 2)
    record = json.loads(run("show", "mood@prod", "--json").stdout)
    manifest = json.loads((stocked / "mood" / "2" / "task.json").read_text())
    assert record == {
        **manifest,
        "ref": "mood@2",
        "cached": False,
        "current": True,
        "aliases": ["prod"],
        "path": str(stocked / "mood" / "2"),
        "origin": None,
        "lineage": ["mood@2", "mood@1"],
    }


def test_show_has_the_results_of_each_label_and_split(run: Any, stocked: Path) -> None:
    shown = run("show", "mood").stdout
    for split in ("dev", "test"):
        _, _, below = shown.partition(f"label ({split})")
        header, _, first, second = below.splitlines()[:4]
        assert {"precision", "recall", "f1"} <= set(header.split())
        assert (first.split()[0], second.split()[0]) == ("negative", "positive")
    assert "type (dev)" in run("show", "names").stdout


def test_show_tells_everything_that_the_manifest_has(run: Any, stocked: Path) -> None:
    shown = run("show", "mood").stdout
    manifest = json.loads((stocked / "mood" / "2" / "task.json").read_text())
    assert "mood@2 ← mood@1" in shown
    for text in (
        *manifest["labels"],
        *manifest["training"],
        *manifest["files"],
        "accuracy",
        "macro_f1",
        *(each["sha256"] for each in manifest["data"].values()),
        manifest["backbone"]["fingerprint"],
        manifest["created"],
        manifest["plugin"]["version"],
        f"{manifest['parameters']['trained']:,}",
    ):
        assert text in shown


def test_lineage_ends_with_a_parent_that_was_removed(run: Any, stocked: Path) -> None:
    Store().remove("mood@1")
    assert json.loads(run("show", "mood", "--json").stdout)["lineage"] == ["mood@2", "mood@1"]


def test_an_alias_points_to_what_the_reference_means_now(run: Any, stocked: Path) -> None:
    assert run("alias", "mood", "prod").stdout == "mood@2 is now mood@prod\n"
    assert Store().resolve("mood@prod").version == 2
    record = json.loads(run("alias", "mood@1", "prod", "--json").stdout)
    assert (record["adapter"], record["alias"], record["aliases"]) == ("mood@1", "prod", ["prod"])
    assert Store().resolve("mood@prod").version == 1


def test_a_deleted_alias_is_gone_and_its_version_is_not(run: Any, stocked: Path) -> None:
    run("alias", "mood", "prod")
    assert run("alias", "mood", "prod", "--delete").stdout == "mood@2 is no longer mood@prod\n"
    assert Store().resolve("mood@2").aliases == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mood@7", "prod"), "no adapter 'mood@7'"),
        (("mood", "3"), "'3' is not a reference"),
        (("mood", "prod", "--delete"), "no adapter 'mood@prod'"),
        (("mood@2", "prod", "--delete"), "adapters alias mood prod --delete"),
    ],
)
def test_an_alias_that_cannot_be_is_refused(
    run: Any, stocked: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run("alias", *arguments)
    assert done.exit_code == 1
    assert message in done.stderr


def test_promote_moves_the_name_and_says_what_it_meant_before(run: Any, stocked: Path) -> None:
    assert run("promote", "mood@1").stdout == "mood means mood@1 now; before mood@2\n"
    assert run("promote", "mood@1").stdout == "mood means mood@1 already\n"
    told = json.loads(run("promote", "mood@latest", "--json").stdout)
    assert told == {"name": "mood", "current": "mood@2", "previous": "mood@1"}
    assert Store().resolve("mood").ref == "mood@2"


def test_list_and_show_mark_the_current_version(run: Any, stocked: Path) -> None:
    run("promote", "mood@1")
    marks = {record["ref"]: record["current"] for record in json.loads(run("list", "--json").stdout)}
    assert marks == {"mood@1": True, "mood@2": False, "names@1": True}
    assert re.search(r"mood@1 +yes +sentiment", run("list").stdout)
    assert re.search(r"mood@2 +sentiment", run("list").stdout)
    assert re.search(r"current +yes, mood means it", run("show", "mood@1").stdout)
    assert re.search(r"current +no", run("show", "mood@2").stdout)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("mood", "mood has no version: give one, such as mood@2 or mood@latest"),
        ("mood@9", "no adapter 'mood@9'"),
        ("other@1", "no adapter 'other@1'"),
    ],
)
def test_a_promotion_that_cannot_be_is_refused(run: Any, stocked: Path, ref: str, message: str) -> None:
    done = run("promote", ref)
    assert (done.exit_code, message in done.stderr) == (1, True)


def test_current_is_refused_as_an_alias_with_the_command_to_use(run: Any, stocked: Path) -> None:
    assert "`adapters promote mood@1` sets it" in run("alias", "mood@1", "current").stderr


def test_the_removal_of_the_current_version_says_what_the_name_means_then(run: Any, stocked: Path) -> None:
    told = json.loads(run("remove", "mood@2", "--yes", "--json").stdout)
    assert told == {"removed": ["mood@2"], "current": {"mood": "mood@1"}}


def test_the_removal_of_the_only_promoted_version_says_that_the_name_means_none(
    run: Any, stocked: Path
) -> None:
    copied = Store().resolve("mood@1").path
    for _ in range(2):
        Store().add(
            "bad",
            lambda folder: shutil.copytree(copied, folder, dirs_exist_ok=True),
            promote=lambda current: current is None,
        )
    assert run("remove", "bad@1", "--yes").stdout == (
        "removed bad@1\nbad means no version now: none was promoted; `adapters promote bad@2` chooses the newest\n"
    )
    refused = run("predict", "bad", "good")
    assert (refused.exit_code, "'bad' has no current version" in refused.stderr) == (1, True)
    assert json.loads(run("remove", "bad", "--all", "--yes", "--json").stdout)["removed"] == ["bad@2"]


def test_remove_takes_the_versions_that_are_named(run: Any, stocked: Path) -> None:
    done = run("remove", "mood@1", "names", "--yes")
    assert (done.exit_code, refs()) == (1, ["mood@1", "mood@2", "names@1"])
    assert run("remove", "mood@1", "names@1", "mood@1", "--yes").stdout == "removed mood@1, names@1\n"
    assert refs() == ["mood@2"]


def test_remove_all_takes_every_version_of_a_name(run: Any, stocked: Path) -> None:
    done = run("remove", "mood", "--all", "--yes", "--json")
    assert json.loads(done.stdout) == {"removed": ["mood@1", "mood@2"], "current": {}}
    assert refs() == ["names@1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mood", "--yes"), "mood has no version number: give a version, such as mood@2, or --all"),
        (("mood@2", "--all", "--yes"), "--all removes every version"),
        (("mood@1",), "stdin is not a terminal, so there is no confirmation; give --yes"),
        (("mood@2", "--yes"), "mood@2 is mood@prod: delete the alias first, or give --force"),
        (("mood@1", "mood@9", "--yes"), "no adapter 'mood@9'"),
    ],
)
def test_a_refused_removal_removes_nothing(
    run: Any, stocked: Path, arguments: tuple[str, ...], message: str
) -> None:
    Store().alias("mood", "prod", 2)
    done = run("remove", *arguments)
    assert done.exit_code == 1
    assert message in done.stderr
    assert refs() == ["mood@1", "mood@2", "names@1"]


def test_force_removes_a_version_with_its_aliases(run: Any, stocked: Path) -> None:
    Store().alias("mood", "prod", 2)
    assert run("remove", "mood@prod", "--yes", "--force").stdout == (
        "removed mood@2\nmood means mood@1 now\n"
    )
    assert refs() == ["mood@1", "names@1"]


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 2), ("n\n", 1, 3)])
def test_on_a_terminal_remove_asks_first(stocked: Path, answer: str, code: int, left: int) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    line = [sys.executable, "-m", "onetrunk.cli.main", "remove", "mood@1"]
    done = subprocess.run(line, stdin=theirs, capture_output=True, text=True)
    os.close(ours)
    os.close(theirs)
    assert "Remove mood@1 permanently? [y/N]" in done.stderr
    assert (done.returncode, len(refs())) == (code, left)


LINES = (
    ["list"], ["promote", "mood@1"], ["list", "--json"], ["show", "mood"], ["alias", "mood", "prod"],
    ["alias", "mood", "prod", "--delete"], ["remove", "mood@1", "--yes"],
)  # fmt: skip


def test_commands_of_the_store_load_no_torch(stocked: Path) -> None:
    source = (
        f"import sys; from onetrunk.cli.main import run; codes = [run(line) for line in {LINES!r}]; "
        "print(codes, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0, 0, 0, 0] False", done.stderr


@pytest.mark.parametrize(
    "name", ["train", "eval", "predict", "list", "show", "promote", "alias", "remove", "quickstart"]
)
def test_help_of_every_command_shows_an_example(run: Any, name: str) -> None:
    assert f"Example:\n    adapters {name}" in run(name, "--help").stdout
