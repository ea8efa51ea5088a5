"""The plugin host takes a plugin in whole or not at all, and a broken one harms nobody."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.core.errors import PluginError, UnknownTask
from onetrunk.core.plugin_system.discovery import PluginSource
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Example, TaskSpec
from onetrunk.core.tasks.hookspecs import CommandSpec, hookimpl

STORED = {"name": "ner", "version": 3, "path": Path("ner", "3")}


def unused(*args: object) -> Any:
    raise NotImplementedError


def task(name: str) -> TaskSpec:
    return TaskSpec(
        name=name,
        summary="A task",
        level="text",
        read=lambda record: Example(record["text"]),
        labels=("no", "yes"),
        targets=unused,
        make_head=unused,
        loss=unused,
        decode=unused,
        evaluate=unused,
        primary="accuracy",
    )


class Giver:
    """A plugin that gives tasks and commands, and keeps what it hears."""

    def __init__(self, *tasks: str, commands: tuple[str, ...] = ()) -> None:
        self.names, self.command_names = tasks, commands
        self.heard: list[object] = []

    @hookimpl
    def tasks(self) -> list[TaskSpec]:
        return [task(name) for name in self.names]

    @hookimpl
    def commands(self) -> list[CommandSpec]:
        return [CommandSpec(name, "module:command", "A command") for name in self.command_names]

    @hookimpl
    def adapter_stored(self, version: int) -> None:
        self.heard.append(version)


def plugin(**hooks: Callable[..., object]) -> SimpleNamespace:
    """Return an object with the functions `hooks`, marked."""
    for function in hooks.values():
        hookimpl(function)
    return SimpleNamespace(**hooks, __name__="beta")


def source(name: str, load: Callable[[], object]) -> PluginSource:
    return PluginSource(name, f"{name}-dist", "1.2", "nowhere", load)


def test_a_sound_plugin_is_reported_with_all_that_it_gives() -> None:
    [report] = PluginHost.of(Giver("ner", "pos", commands=("tag",))).plugins
    assert (report.name, report.tasks, report.commands) == ("Giver", ("ner", "pos"), ("tag",))
    assert report.hooks == ("adapter_stored", "commands", "tasks")
    assert report.error is None


def test_a_task_is_found_by_name_with_its_origin() -> None:
    host = PluginHost([source("beta", lambda: Giver("ner"))])
    assert host.task("ner") is host.tasks["ner"]
    assert host.origin("ner") == ("beta-dist", "1.2")


def test_an_unknown_task_is_answered_with_the_known_ones_and_the_broken_plugins() -> None:
    host = PluginHost([source("beta", lambda: Giver("ner")), source("bad", lambda: 1 / 0)])
    with pytest.raises(UnknownTask, match=r"'nope'; known: ner; .* failed to load: bad \(bad-dist 1.2\)"):
        host.task("nope")


def test_the_origin_of_an_unknown_task_is_an_error() -> None:
    with pytest.raises(UnknownTask, match="known: none"):
        PluginHost.of().origin("nope")


def test_what_the_host_shows_cannot_be_changed() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        PluginHost.of().tasks["ner"] = task("ner")  # type: ignore[index]


FAULTS: dict[str, tuple[Callable[[], object], str]] = {
    "misspelt hook": (lambda: plugin(taks=lambda: []), "unknown hook 'taks'.*; the hooks are adapter_"),
    "unknown argument": (
        lambda: plugin(tasks=lambda names: names),
        "names.* not be found in the hookspec",
    ),
    "no list": (lambda: plugin(tasks=lambda: None), "iterable of TaskSpec, not None"),
    "a lone task": (lambda: plugin(tasks=lambda: task("ner")), "iterable of TaskSpec, not TaskSpec"),
    "no task": (lambda: plugin(tasks=lambda: ["ner"]), "TaskSpec records, not str"),
    "no command": (lambda: plugin(commands=lambda: [task("ner")]), "CommandSpec records, not TaskSpec"),
    "a task twice": (lambda: Giver("ner", "ner"), "task 'ner' occurs twice"),
    "our command": (lambda: Giver(commands=("train",)), "'train' already belongs to onetrunk itself"),
    "a raise": (lambda: plugin(tasks=lambda: 1 / 0), r"ZeroDivisionError: division by zero \(.*\.py:\d+\)"),
    "nothing": (lambda: None, "expected a module or an object with hooks, got None"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_plugin_is_refused_with_the_reason(fault: str) -> None:
    make, reason = FAULTS[fault]
    with pytest.raises(PluginError, match=reason):
        PluginHost.of(make())


def test_a_wrapper_is_refused_because_plugins_are_called_one_by_one() -> None:
    def tasks() -> Iterator[None]:
        yield

    with pytest.raises(PluginError, match="tasks is a hook wrapper"):
        PluginHost.of(SimpleNamespace(tasks=hookimpl(wrapper=True)(tasks)))


def test_the_same_object_cannot_come_in_twice() -> None:
    giver = Giver("ner")
    with pytest.raises(PluginError, match="already loaded"):
        PluginHost.of(giver, giver)


def test_a_command_that_another_plugin_gives_is_refused() -> None:
    with pytest.raises(PluginError, match=r"command 'tag' already belongs to plugin Giver"):
        PluginHost.of(Giver(commands=("tag",)), Giver(commands=("tag",)))


def test_a_command_must_name_what_to_import() -> None:
    with pytest.raises(
        PluginError, match=r"name must be .*; target must be module:attribute.*; summary must"
    ):
        CommandSpec("Tag it", "module.command", "")


def test_a_broken_plugin_leaves_nothing_behind() -> None:
    bad = Giver("ner", commands=("tag", "train"))
    host = PluginHost([source("bad", lambda: bad), source("beta", lambda: Giver("ner", commands=("tag",)))])
    host.notify("adapter_stored", **STORED)
    assert [report.name for report in host.broken] == ["bad"]
    assert (host.origin("ner"), host.command_owner("tag").name) == (("beta-dist", "1.2"), "beta")
    assert not bad.heard


def test_a_plugin_whose_error_has_no_readable_message_is_reported_all_the_same() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError

    def load() -> object:
        raise MuteError

    [report] = PluginHost([source("bad", load)]).plugins
    assert report.error is not None
    assert report.error.startswith("MuteError: its message cannot be shown: __str__ raises ValueError")


@given(st.lists(st.lists(st.sampled_from("abcdef"), unique=True), max_size=8))
def test_a_plugin_is_taken_whole_unless_an_earlier_one_has_one_of_its_tasks(plugins: list[list[str]]) -> None:
    expected: dict[str, str] = {}
    for index, names in enumerate(plugins):
        if expected.keys().isdisjoint(names):
            expected |= dict.fromkeys(names, f"p{index}-dist")
    host = PluginHost(source(f"p{i}", partial(Giver, *names)) for i, names in enumerate(plugins))
    assert {name: host.origin(name)[0] for name in host.tasks} == expected


def test_an_event_reaches_every_plugin_with_the_arguments_it_asks_for() -> None:
    first, second = Giver("a"), Giver("b")
    PluginHost.of(first, second).notify("adapter_stored", **STORED)
    assert first.heard == second.heard == [3]


@pytest.mark.parametrize("error", [ValueError("no disk"), SystemExit("no disk"), BaseException("no disk")])
def test_a_raise_in_an_event_is_logged_and_stops_nobody(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def adapter_stored() -> None:
        raise error

    before, after = Giver("a"), Giver("b")
    with caplog.at_level(logging.DEBUG):
        PluginHost.of(before, plugin(adapter_stored=adapter_stored), after).notify("adapter_stored", **STORED)
    assert before.heard == after.heard == [3]
    warning, detail = caplog.records
    assert warning.levelno == logging.WARNING
    assert "beta" in warning.getMessage()
    assert f"{type(error).__name__}: no disk" in warning.getMessage()
    assert (detail.levelno, detail.exc_info is not None) == (logging.DEBUG, True)


def test_a_failure_that_repeats_is_a_warning_once(caplog: pytest.LogCaptureFixture) -> None:
    def adapter_stored() -> None:
        raise ValueError("no disk")

    host = PluginHost.of(plugin(adapter_stored=adapter_stored))
    for _ in range(3):
        host.notify("adapter_stored", **STORED)
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1


def test_ctrl_c_in_an_event_is_not_taken_for_a_fault() -> None:
    def adapter_stored() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PluginHost.of(plugin(adapter_stored=adapter_stored)).notify("adapter_stored", **STORED)


@pytest.mark.parametrize(
    ("hook", "event"), [("tasks", {}), ("stored", {}), ("adapter_stored", {"name": "ner"})]
)
def test_an_event_that_does_not_exist_is_the_callers_error(hook: str, event: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=f"no event hook {hook}"):
        PluginHost.of().notify(hook, **event)


# What is installed: real distributions in a folder on sys.path.

SOURCE = """
from onetrunk.core.tasks.hookspecs import hookimpl
from onetrunk.core.tasks import Example, TaskSpec

def unused(*args):
    raise NotImplementedError

@hookimpl
def tasks():
    return [TaskSpec(name="{task}", summary="A task", level="text", read=Example, labels=("no", "yes"),
                     targets=unused, make_head=unused, loss=unused, decode=unused, evaluate=unused,
                     primary="accuracy")]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder on `sys.path`; what is imported meanwhile is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("probe_"):
            del sys.modules[name]


def install(folder: Path, name: str, task: str, entry_points: str = "") -> Path:
    """Write distribution `name` 1.2 with the module `probe_NAME` as its plugin; return its dist-info."""
    module = f"probe_{name}"
    about = folder / f"{name}-1.2.dist-info"
    about.mkdir(parents=True)
    (folder / f"{module}.py").write_text(SOURCE.replace("{task}", task))
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(entry_points or f"[onetrunk.plugins]\n{name} = {module}\n")
    return about


INSTALLED = frozenset(report.distribution for report in PluginHost.discover().plugins)
"""Distributions with plugins that are installed where the tests run."""


def strangers(host: PluginHost) -> list[str]:
    return [report.distribution for report in host.plugins if report.distribution not in INSTALLED]


def test_our_own_plugins_come_first_then_those_of_others_by_distribution(folder: Path) -> None:
    install(folder, "zeta", "z")
    install(folder, "alpha", "a")
    host = PluginHost.discover()
    assert strangers(host) == ["alpha", "zeta"]
    others = [report.distribution != "onetrunk" for report in host.plugins]
    assert others == sorted(others)
    assert host.origin("z") == ("zeta", "1.2")


def test_a_distribution_that_is_found_twice_counts_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(folder, "alpha", "a")
    again = folder / "again"
    install(again, "Alpha", "a")
    monkeypatch.syspath_prepend(again)
    assert strangers(PluginHost.discover()) == ["Alpha"]


@pytest.mark.parametrize("damage", ["no METADATA", "no value", "no UTF-8"])
def test_unreadable_metadata_is_reported_and_harms_no_other_plugin(folder: Path, damage: str) -> None:
    install(folder, "alpha", "a")
    about = install(folder, "bad", "b", "[onetrunk.plugins]\nbad\n" if damage == "no value" else "")
    if damage == "no METADATA":
        (about / "METADATA").unlink()
    if damage == "no UTF-8":
        (about / "entry_points.txt").write_bytes(b"[onetrunk.plugins]\nb\xff = probe_bad\n")
    host = PluginHost.discover()
    faults = [report.error for report in host.broken if str(folder) in report.distribution]
    assert "a" in host.tasks
    assert len(faults) == 1
    assert faults[0] is not None
    assert "METADATA or entry_points.txt cannot be read" in faults[0]


def test_an_entry_point_of_a_missing_module_is_named_in_the_reason(folder: Path) -> None:
    install(folder, "bad", "b", "[onetrunk.plugins]\nbad = probe_missing\n")
    [error] = [report.error for report in PluginHost.discover().broken if report.name == "bad"]
    assert error == "ModuleNotFoundError: No module named 'probe_missing' (entry point bad = probe_missing)"


def test_of_two_distributions_with_the_same_task_the_later_by_name_is_dropped(folder: Path) -> None:
    install(folder, "zeta", "same")
    install(folder, "alpha", "same")
    host = PluginHost.discover()
    assert host.origin("same") == ("alpha", "1.2")
    [error] = [report.error for report in host.broken if report.name == "zeta"]
    assert error is not None
    assert "task 'same' already belongs to plugin alpha (alpha 1.2)" in error
