"""The command line starts at once, and knows its commands without importing them."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.util import find_spec
from typing import Any

import pytest

from onetrunk.cli.main import COMMANDS
from onetrunk.core.plugin_host import OWN_COMMANDS

HEAVY = {"torch", "transformers", "peft", "rich", "seqeval"}
SHOW_MODULES = """
import sys
from onetrunk.cli.main import run
code = run(["--help"])
print("MODULES", *sys.modules)
sys.exit(code)
"""


@pytest.fixture
def crowded(site: Any) -> Any:
    for index in range(20):
        site.install(f"plug{index}")
    return site


def test_help_takes_less_than_300_ms_with_20_plugins(crowded: Any) -> None:
    line = [sys.executable, "-m", "onetrunk.cli.main", "--help"]
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(line, env=crowded.environment(), capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert "do-plug19" in done.stdout
    assert min(seconds) < 0.3, f"seconds a run: {seconds}"


def test_help_with_20_plugins_loads_nothing_heavy(crowded: Any) -> None:
    line = [sys.executable, "-c", SHOW_MODULES]
    done = subprocess.run(line, env=crowded.environment(), capture_output=True, text=True, check=True)
    listed, _, modules = done.stdout.partition("MODULES ")
    assert "do-plug0" in listed
    assert HEAVY.isdisjoint(modules.split())


def test_every_built_in_command_has_its_module() -> None:
    missing = [entry.module for entry in COMMANDS.values() if find_spec(entry.module) is None]
    assert not missing


def test_the_names_that_plugins_cannot_take_are_those_of_the_table() -> None:
    assert set(COMMANDS) == OWN_COMMANDS


def test_help_lists_built_in_commands_before_those_of_plugins(site: Any, adapters: Any) -> None:
    site.install("beta")
    shown = adapters("--help").stdout
    marks = ("\nCommands:", "  quickstart ", "  remove ", "\nPlugin commands:")
    places = [shown.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "do-beta  Does what beta does" in shown[places[-1] :]


def test_short_and_long_help_are_the_same(adapters: Any) -> None:
    assert adapters("-h").stdout == adapters("--help").stdout


def test_version_is_that_of_the_distribution(adapters: Any) -> None:
    from importlib.metadata import version

    assert adapters("--version").stdout == f"adapters, version {version('onetrunk')}\n"


def test_an_unknown_command_is_answered_with_near_names(adapters: Any) -> None:
    done = adapters("pluginz")
    assert done.returncode == 2
    assert "no command 'pluginz'; did you mean plugins?" in done.stderr


def test_near_names_include_the_commands_of_plugins(site: Any, adapters: Any) -> None:
    site.install("beta")
    assert "did you mean do-beta?" in adapters("do-betta").stderr


def test_shell_completion_offers_commands_of_plugins_without_importing_them(site: Any, adapters: Any) -> None:
    site.install("beta")  # the module of its command does not exist
    done = adapters(_ADAPTERS_COMPLETE="bash_complete", COMP_WORDS="adapters do", COMP_CWORD="1")
    assert done.stdout == "plain,do-beta\n"
