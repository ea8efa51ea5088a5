"""`adapters plugins`: every plugin is named, and a broken one stops nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

HOOKIMPL = "from onetrunk.core.tasks.hookspecs import hookimpl\n"
BROKEN = {
    "syntax error": ("def tasks(:\n", r"SyntaxError: "),
    "import error": ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
    "exit at import": ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
    "misspelt hook": (HOOKIMPL + "@hookimpl\ndef taks():\n    return []\n", "unknown hook 'taks'"),
    "wrong arguments": (HOOKIMPL + "@hookimpl\ndef tasks(names):\n    return []\n", "tasks(names)"),
    "no task": (HOOKIMPL + "@hookimpl\ndef tasks():\n    return ['ner']\n", "TaskSpec records, not str"),
    "raise": (HOOKIMPL + "@hookimpl\ndef tasks():\n    yield 1 / 0\n", "ZeroDivisionError: division by zero"),
}


@pytest.fixture(params=BROKEN)
def broken(request: pytest.FixtureRequest, site: Any) -> str:
    """Install a broken plugin `bad` and a sound one; return a part of the reason."""
    source, reason = BROKEN[request.param]
    site.install("bad", source)
    site.install("good")
    return reason


def test_a_broken_plugin_is_reported_with_its_distribution_and_reason(broken: str, adapters: Any) -> None:
    done = adapters("plugins", "--json")
    assert done.returncode == 0, done.stderr
    report = next(it for it in json.loads(done.stdout) if it["name"] == "bad")
    assert (report["distribution"], report["version"]) == ("bad-dist", "1.2")
    assert broken in report["error"]
    assert "\n" not in report["error"]
    assert (report["tasks"], report["commands"], report["hooks"]) == ([], [], [])


def test_a_broken_plugin_is_named_in_the_help_and_does_not_stop_it(broken: str, adapters: Any) -> None:
    done = adapters("--help")
    assert done.returncode == 0, done.stderr
    assert "did not load" in done.stdout
    assert "bad-dist 1.2" in done.stdout
    assert "do-good" in done.stdout


def test_the_reason_gives_file_and_line(site: Any, adapters: Any) -> None:
    site.install("bad", "\n\nimport no_such_module\n")
    [report] = [it for it in json.loads(adapters("plugins", "--json").stdout) if it["name"] == "bad"]
    assert report["error"].endswith(f"({site.folder / 'bad.py'}:3)")


def test_of_two_plugins_with_the_same_task_the_later_is_dropped_and_both_are_named(
    site: Any, adapters: Any
) -> None:
    site.install("first")
    source = (site.folder / "first.py").read_text()
    site.install("second", source.replace("first_command", "second_command"))
    reports = {it["name"]: it for it in json.loads(adapters("plugins", "--json").stdout)}
    assert reports["first"]["tasks"] == ["task-first"]
    assert "'task-first' already belongs to plugin first (first-dist 1.2)" in reports["second"]["error"]


def test_the_table_shows_what_a_plugin_gives(site: Any, adapters: Any) -> None:
    site.install("beta")
    lines = adapters("plugins").stdout.splitlines()
    [line] = [line for line in lines if "beta-dist 1.2" in line]
    assert line.split() == ["beta", "beta-dist", "1.2", "task-beta", "commands,", "tasks", "do-beta", "ok"]


def test_reasons_stand_below_the_table(site: Any, adapters: Any) -> None:
    site.install("bad", "import no_such_module\n")
    last = adapters("plugins").stdout.splitlines()[-1]
    assert last.startswith("bad (bad-dist 1.2): ModuleNotFoundError: ")


def test_a_plugin_without_marked_functions_is_told_apart_from_a_sound_one(site: Any, adapters: Any) -> None:
    site.install("forgot", "def tasks():\n    return []\n")
    [line] = [line for line in adapters("plugins").stdout.splitlines() if "forgot-dist" in line]
    assert line.endswith("no function marked @hookimpl")


@pytest.mark.parametrize("source", ["print('hello')", "raise BaseException('a panic')"])
def test_a_plugin_that_prints_or_panics_when_imported_leaves_stdout_as_json(
    site: Any, adapters: Any, source: str
) -> None:
    site.install("bad", source)
    done = adapters("plugins", "--json")
    assert done.returncode == 0
    [report] = [it for it in json.loads(done.stdout) if it["name"] == "bad"]
    assert report["error"] is None or report["error"].startswith("BaseException: a panic (")


def test_escape_sequences_of_a_plugin_do_not_reach_the_terminal(site: Any, adapters: Any) -> None:
    site.install("bad", r"raise ValueError('\x1b[2J gone')")
    shown = adapters("plugins").stdout
    assert "\x1b" not in shown
    assert r"\x1b[2J gone" in shown


def test_the_built_in_tasks_come_from_our_own_distribution(adapters: Any) -> None:
    own = [it for it in json.loads(adapters("plugins", "--json").stdout) if it["distribution"] == "onetrunk"]
    assert {name for it in own for name in it["tasks"]} >= {"ner", "sentiment", "intent"}


def test_help_of_the_command_shows_an_example(adapters: Any) -> None:
    assert "adapters plugins --json" in adapters("plugins", "--help").stdout
