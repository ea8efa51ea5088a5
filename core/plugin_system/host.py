"""The plugin host: finds plugins, tries each, keeps the sound ones and reports the others.

A plugin is a module or an object with functions marked `hookimpl`, named by an entry point of the group
`onetrunk.plugins`. It is taken in whole or not at all: one that fails a check leaves nothing but its report.
Built-in plugins come in by the same door. No torch is imported here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pluggy

from onetrunk.core.errors import PluginError, UnknownTask
from onetrunk.core.plugin_system.discovery import PluginSource, at_hand, installed
from onetrunk.core.plugin_system.registration import by_name, given, new_manager, registered
from onetrunk.core.tasks import TaskSpec
from onetrunk.core.tasks.error_reason import reason
from onetrunk.core.tasks.hookspecs import CommandSpec

OWN_COMMANDS = frozenset(
    {
        "alias",
        "eval",
        "export",
        "list",
        "outdated",
        "plugins",
        "predict",
        "pull",
        "push",
        "quickstart",
        "remove",
        "search",
        "serve",
        "show",
        "train",
        "update",
    }
)
"""Names of our own commands, which no plugin can take. They stand here, not in `cli`, because a plugin must
be sound or broken for a program just as it is for the command line."""

_GIVING = ("tasks", "commands")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PluginReport:
    """What became of one plugin.

    name: of its entry point, or of its module.
    distribution, version: of what installed it.
    tasks, commands, hooks: the names of what it gives and of the hooks it implements; () when it is broken.
    error: None, or why it is broken: one line with the type of the error and the line that raised it.
    """

    name: str
    distribution: str
    version: str
    tasks: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    error: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


class PluginHost:
    """The sound plugins of a process: their tasks, their commands, and who hears of events. Never changes."""

    def __init__(self, sources: Iterable[PluginSource]) -> None:
        """Load `sources` in their order: of two plugins that give the same name the first wins."""
        self._manager = new_manager()
        self._tasks: dict[str, TaskSpec] = {}
        self._commands: dict[str, CommandSpec] = {}
        self._giver_of_task: dict[str, PluginReport] = {}
        self._giver_of_command: dict[str, PluginReport] = {}
        self._told: set[tuple[str, str, str]] = set()
        self._plugins = tuple(self._take(source) for source in sources)

    @classmethod
    def discover(cls) -> PluginHost:
        """Load every installed plugin: our own first, then by the name of the distribution.

        Never raises for a plugin's sake; why one is broken stands in `plugins`.
        """
        return cls(installed())

    @classmethod
    def of(cls, *plugins: object) -> PluginHost:
        """Load modules or objects that are at hand, and nothing installed: for tests and for programs.

        Raises PluginError for the first that is broken.
        """
        host = cls(at_hand(plugin) for plugin in plugins)
        for report in host.broken:
            raise PluginError(f"plugin {report}: {report.error}")
        return host

    @property
    def plugins(self) -> tuple[PluginReport, ...]:
        """Return a report on each plugin, the broken ones included, in the order of loading."""
        return self._plugins

    @property
    def broken(self) -> tuple[PluginReport, ...]:
        """Return the reports on those plugins that did not load."""
        return tuple(report for report in self._plugins if report.error is not None)

    @property
    def tasks(self) -> Mapping[str, TaskSpec]:
        """Return the tasks by name, in the order of loading."""
        return MappingProxyType(self._tasks)

    @property
    def commands(self) -> Mapping[str, CommandSpec]:
        """Return the plugins' commands by name, in the order of loading."""
        return MappingProxyType(self._commands)

    def task(self, name: str) -> TaskSpec:
        """Return the task `name`. Raises UnknownTask."""
        if name not in self._tasks:
            raise UnknownTask(name, tuple(self._tasks), [str(report) for report in self.broken])
        return self._tasks[name]

    def origin(self, task: str) -> tuple[str, str]:
        """Return the distribution that gives `task`, and its version. Raises UnknownTask."""
        self.task(task)
        giver = self._giver_of_task[task]
        return giver.distribution, giver.version

    def command_giver(self, command: str) -> PluginReport:
        """Return the report on the plugin that gives `command`, one of `commands`."""
        return self._giver_of_command[command]

    def notify(self, hook_name: str, **event: object) -> None:
        """Tell every plugin of an event, each on its own: a raise is logged and stops nobody.

        A failure that only repeats, as in each training step, is a warning once. Raises TypeError when there is no
        event `hook_name` with exactly the arguments `event`.
        """
        for implementation in self._listeners(hook_name, event):
            try:
                implementation.function(*(event[name] for name in implementation.argnames))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                plugin, why = implementation.plugin_name, reason(error, "line unknown")
                if (plugin, hook_name, why) not in self._told:
                    self._told.add((plugin, hook_name, why))
                    _log.warning("plugin %s failed to hear of %s: %s", plugin, hook_name, why)
                _log.debug("plugin %s, %s", plugin, hook_name, exc_info=True)

    def _listeners(self, hook_name: str, event: Mapping[str, object]) -> list[pluggy.HookImpl]:
        hook: pluggy.HookCaller | None = getattr(self._manager.hook, hook_name, None)
        if hook is None or hook.spec is None or hook_name in _GIVING or {*hook.spec.argnames} != {*event}:
            raise TypeError(f"onetrunk.core.tasks.hookspecs has no event {hook_name}({', '.join(event)})")
        return hook.get_hookimpls()[::-1]  # pluggy keeps the one to be called first at the end

    def _take(self, source: PluginSource) -> PluginReport:
        """Load one plugin; a fault leaves the host as it was."""
        identity = (source.name, source.distribution, source.version)
        try:
            plugin = source.load()
            with registered(self._manager, plugin, str(source)) as hooks:
                tasks = by_name(given(hooks, "tasks", TaskSpec), self._task_holder)
                commands = by_name(given(hooks, "commands", CommandSpec), self._command_holder)
        except KeyboardInterrupt:
            raise
        except (
            BaseException
        ) as error:  # some are no Exception: a panic in Rust, a test framework's skip, sys.exit
            _log.debug("plugin %s did not load", source, exc_info=True)
            return PluginReport(*identity, error=reason(error, source.place))
        report = PluginReport(*identity, tuple(tasks), tuple(commands), tuple(sorted(hooks)))
        self._tasks |= tasks
        self._commands |= commands
        self._giver_of_task |= dict.fromkeys(tasks, report)
        self._giver_of_command |= dict.fromkeys(commands, report)
        return report

    def _task_holder(self, name: str) -> str | None:
        return f"plugin {self._giver_of_task[name]}" if name in self._giver_of_task else None

    def _command_holder(self, name: str) -> str | None:
        if name in OWN_COMMANDS:
            return "onetrunk itself"
        return f"plugin {self._giver_of_command[name]}" if name in self._giver_of_command else None
