"""The plugin host: loads and checks plugins, and reports those that fail.

A plugin is a module or an object with functions marked `hookimpl`, named by an entry point of the group
`onetrunk.plugins`. If a plugin fails a check, nothing of it is registered; only its report is kept. Built-in
plugins are loaded in the same way. This module does not import torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pluggy

from onetrunk.core.errors import PluginError, UnknownTask
from onetrunk.core.plugin_system.discovery import PluginSource, installed, source_of
from onetrunk.core.plugin_system.registration import by_name, new_manager, provided, registered
from onetrunk.core.tasks import TaskSpec
from onetrunk.core.tasks.guarded_calls import reason
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
"""Names of the built-in commands, which a plugin cannot use.

They are listed here and not in `cli`, so that a plugin whose command has such a name also fails when
OneTrunk is used as a library.
"""

_PROVIDER_HOOKS = ("tasks", "commands")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PluginReport:
    """The result of loading one plugin.

    name: of its entry point, or of its module.
    distribution, version: of the distribution that installed it.
    tasks, commands, hooks: the names of its tasks, its commands and the hooks that it implements; () if it failed.
    error: None, or the reason why it failed, in one line: the type of the error, and the line that raised it.
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
    """The loaded plugins: their tasks, commands and event hooks. Immutable."""

    def __init__(self, sources: Iterable[PluginSource]) -> None:
        """Load `sources` in order. If two plugins have a task or command of the same name, the second one fails."""
        self._manager = new_manager()
        self._tasks: dict[str, TaskSpec] = {}
        self._commands: dict[str, CommandSpec] = {}
        self._owner_of_task: dict[str, PluginReport] = {}
        self._owner_of_command: dict[str, PluginReport] = {}
        self._logged: set[tuple[str, str, str]] = set()
        self._plugins = tuple(self._load(source) for source in sources)

    @classmethod
    def discover(cls) -> PluginHost:
        """Load all installed plugins: those of OneTrunk first, then in the order of the distributions' names.

        A plugin that fails does not raise here; the reason is in `plugins`.
        """
        return cls(installed())

    @classmethod
    def of(cls, *plugins: object) -> PluginHost:
        """Load only the given modules or objects, without installed plugins, for tests and use as a library.

        Raises PluginError for the first plugin that fails.
        """
        host = cls(source_of(plugin) for plugin in plugins)
        for report in host.broken:
            raise PluginError(f"plugin {report}: {report.error}")
        return host

    @property
    def plugins(self) -> tuple[PluginReport, ...]:
        """Return a report on each plugin in the order of loading, including those that failed."""
        return self._plugins

    @property
    def broken(self) -> tuple[PluginReport, ...]:
        """Return the reports on the plugins that failed."""
        return tuple(report for report in self._plugins if report.error is not None)

    @property
    def tasks(self) -> Mapping[str, TaskSpec]:
        """Return the tasks by name, in the order of loading."""
        return MappingProxyType(self._tasks)

    @property
    def commands(self) -> Mapping[str, CommandSpec]:
        """Return the commands of plugins by name, in the order of loading."""
        return MappingProxyType(self._commands)

    def task(self, name: str) -> TaskSpec:
        """Return the task `name`. Raises UnknownTask."""
        if name not in self._tasks:
            raise UnknownTask(name, tuple(self._tasks), [str(report) for report in self.broken])
        return self._tasks[name]

    def origin(self, task: str) -> tuple[str, str]:
        """Return the distribution of the plugin that has `task`, and its version. Raises UnknownTask."""
        self.task(task)
        owner = self._owner_of_task[task]
        return owner.distribution, owner.version

    def command_owner(self, command: str) -> PluginReport:
        """Return the report on the plugin that has `command`, one of `commands`."""
        return self._owner_of_command[command]

    def notify(self, hook_name: str, **event: object) -> None:
        """Call an event hook of every plugin. An exception of one plugin is logged and does not stop the others.

        The same failure, for example in each training step, is logged as a warning only once.
        Raises TypeError unless there is an event hook `hook_name` with exactly the arguments `event`.
        """
        for implementation in self._implementations(hook_name, event):
            try:
                implementation.function(*(event[name] for name in implementation.argnames))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                plugin, why = implementation.plugin_name, reason(error, "line unknown")
                if (plugin, hook_name, why) not in self._logged:
                    self._logged.add((plugin, hook_name, why))
                    _log.warning("plugin %s failed in the hook %s: %s", plugin, hook_name, why)
                _log.debug("plugin %s, %s", plugin, hook_name, exc_info=True)

    def _implementations(self, hook_name: str, event: Mapping[str, object]) -> list[pluggy.HookImpl]:
        hook: pluggy.HookCaller | None = getattr(self._manager.hook, hook_name, None)
        if (
            hook is None
            or hook.spec is None
            or hook_name in _PROVIDER_HOOKS
            or {*hook.spec.argnames} != {*event}
        ):
            raise TypeError(
                f"onetrunk.core.tasks.hookspecs has no event hook {hook_name}({', '.join(event)})"
            )
        return hook.get_hookimpls()[::-1]  # pluggy lists them in reverse order of calling

    def _load(self, source: PluginSource) -> PluginReport:
        """Load one plugin. If it fails, nothing of it stays registered."""
        identity = (source.name, source.distribution, source.version)
        try:
            plugin = source.load()
            with registered(self._manager, plugin, str(source)) as hooks:
                tasks = by_name(provided(hooks, "tasks", TaskSpec), self._task_owner)
                commands = by_name(provided(hooks, "commands", CommandSpec), self._command_owner)
        except KeyboardInterrupt:
            raise
        # Not only Exception: a panic in Rust, the skip of a test framework and sys.exit derive from BaseException.
        except BaseException as error:
            _log.debug("plugin %s failed to load", source, exc_info=True)
            return PluginReport(*identity, error=reason(error, source.place))
        report = PluginReport(*identity, tuple(tasks), tuple(commands), tuple(sorted(hooks)))
        self._tasks |= tasks
        self._commands |= commands
        self._owner_of_task |= dict.fromkeys(tasks, report)
        self._owner_of_command |= dict.fromkeys(commands, report)
        return report

    def _task_owner(self, name: str) -> str | None:
        return f"plugin {self._owner_of_task[name]}" if name in self._owner_of_task else None

    def _command_owner(self, name: str) -> str | None:
        if name in OWN_COMMANDS:
            return "onetrunk itself"
        return f"plugin {self._owner_of_command[name]}" if name in self._owner_of_command else None
