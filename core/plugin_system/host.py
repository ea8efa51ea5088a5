"""The plugin host: loads and checks plugins, and reports those that fail.

A plugin is a module or an object with functions marked `hookimpl`. An entry point of the group `onetrunk.plugins`
names it. If a plugin fails a check, nothing of it is registered; only its report is kept. Built-in plugins are
loaded in the same way. This module does not import torch.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import pluggy

from onetrunk.core.errors import PluginError, UnknownTask
from onetrunk.core.plugin_system.discovery import PluginSource, installed, source_of
from onetrunk.core.tasks import TaskSpec, hookspecs
from onetrunk.core.tasks.guarded_calls import reason
from onetrunk.core.tasks.hookspecs import PROJECT, CommandSpec

OWN_COMMANDS = frozenset(
    {
        "alias",
        "check",
        "eval",
        "export",
        "list",
        "outdated",
        "promote",
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

They are listed here and not in `cli`, so that a plugin whose command has such a name also fails when OneTrunk is
used as a library.
"""

_PROVIDER_HOOKS = ("tasks", "commands")
_Record = TypeVar("_Record", TaskSpec, CommandSpec)
_Hooks = Mapping[str, list[pluggy.HookImpl]]
"""The implementations of a plugin by the name of the hook."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PluginReport:
    """The result of loading one plugin.

    name: of its entry point, or of its module or class if a program passed it.
    distribution, version: of the distribution that installed it.
    tasks, commands, hooks: the names of its tasks, its commands and the hooks that it implements; () if it failed.
    error: why it failed, in one line: the error, and the line that raised it. None if it did not fail.
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
    """The loaded plugins: their tasks, commands and event hooks. Immutable.

    plugins: a report on each plugin in the order of loading, including those that failed.
    tasks, commands: the tasks and the commands of the plugins by name, in the order of loading.
    """

    def __init__(self, sources: Iterable[PluginSource]) -> None:
        """Load `sources` in order. If two plugins have a task or command of the same name, the second one fails."""
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._tasks: dict[str, TaskSpec] = {}
        self._commands: dict[str, CommandSpec] = {}
        self._owners: dict[tuple[str, str], PluginReport] = {}  # by provider hook and name of the record
        self._logged: set[tuple[str, str, str]] = set()
        self.tasks: Mapping[str, TaskSpec] = MappingProxyType(self._tasks)
        self.commands: Mapping[str, CommandSpec] = MappingProxyType(self._commands)
        self.plugins = tuple(self._load(source) for source in sources)

    @classmethod
    def discover(cls) -> PluginHost:
        """Load all installed plugins: those of OneTrunk first, then the others by the name of their distribution.

        A plugin that fails raises nothing here; `plugins` has the reason.
        """
        return cls(installed())

    @classmethod
    def of(cls, *plugins: object) -> PluginHost:
        """Load only the given modules or objects, not the installed plugins.

        Raises PluginError for the first plugin that fails.
        """
        host = cls(source_of(plugin) for plugin in plugins)
        for report in host.broken:
            raise PluginError(f"plugin {report}: {report.error}")
        return host

    @property
    def broken(self) -> tuple[PluginReport, ...]:
        """Return the reports on the plugins that failed."""
        return tuple(report for report in self.plugins if report.error is not None)

    def task(self, name: str) -> TaskSpec:
        """Return the task `name`. Raises UnknownTask."""
        if name not in self._tasks:
            raise UnknownTask(name, tuple(self._tasks), [str(report) for report in self.broken])
        return self._tasks[name]

    def origin(self, task: str) -> tuple[str, str]:
        """Return the distribution of the plugin that has `task`, and its version. Raises UnknownTask."""
        self.task(task)
        owner = self._owners["tasks", task]
        return owner.distribution, owner.version

    def command_owner(self, command: str) -> PluginReport:
        """Return the report on the plugin that has `command`, one of `commands`."""
        return self._owners["commands", command]

    def notify(self, hook_name: str, **event: object) -> None:
        """Call an event hook of every plugin. An exception of one plugin is logged and does not stop the others.

        The same failure, for example in each training step, is logged as a warning only once.
        Raises TypeError unless there is an event hook `hook_name` with exactly the arguments `event`.
        """
        hook = getattr(self._manager.hook, hook_name, None)
        spec = None if hook is None or hook_name in _PROVIDER_HOOKS else hook.spec
        if hook is None or spec is None or {*spec.argnames} != {*event}:
            raise TypeError(
                f"onetrunk.core.tasks.hookspecs has no event hook {hook_name}({', '.join(event)})"
            )
        for implementation in reversed(hook.get_hookimpls()):  # pluggy calls the last one first
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

    def _load(self, source: PluginSource) -> PluginReport:
        identity = (source.name, source.distribution, source.version)
        try:
            plugin = source.load()
            with self._registered(plugin, str(source)) as hooks:
                tasks = self._provided(hooks, "tasks", TaskSpec)
                commands = self._provided(hooks, "commands", CommandSpec)
        except KeyboardInterrupt:
            raise
        # Not only Exception: a panic in Rust, the skip of a test framework and sys.exit derive from BaseException.
        except BaseException as error:
            _log.debug("plugin %s failed to load", source, exc_info=True)
            return PluginReport(*identity, error=reason(error, source.location))
        report = PluginReport(*identity, tuple(tasks), tuple(commands), tuple(sorted(hooks)))
        self._tasks |= tasks
        self._commands |= commands
        self._owners |= {("tasks", name): report for name in tasks}
        self._owners |= {("commands", name): report for name in commands}
        return report

    @contextlib.contextmanager
    def _registered(self, plugin: object, name: str) -> Iterator[_Hooks]:
        """Register `plugin` and yield its hook implementations; if the block raises, unregister it again.

        Raises PluginError for a plugin that is already registered, an unknown hook, an unknown argument of a hook,
        and a hook wrapper.
        """
        manager = self._manager
        if plugin is None:
            raise PluginError("expected a module or an object with hooks, got None")
        if (first := manager.get_name(plugin)) is not None:
            raise PluginError(f"the same module or object is already loaded as plugin {first}")
        if manager.has_plugin(name):
            name = f"{name} no. {len(manager.list_name_plugin()) + 1}"
        known = ", ".join(sorted(name for name, hook in vars(manager.hook).items() if hook.has_spec()))
        try:
            manager.register(plugin, name)
            manager.check_pending()  # pluggy itself accepts a misspelt hook
            callers = manager.get_hookcallers(plugin) or []
            hooks = {
                each.name: [it for it in each.get_hookimpls() if it.plugin is plugin] for each in callers
            }
            for hook, implementations in hooks.items():
                if any(it.wrapper or it.hookwrapper for it in implementations):
                    raise PluginError(
                        f"{hook} is a hook wrapper, which is not supported; implement the hook itself"
                    )
            yield hooks
        except BaseException as error:
            if manager.has_plugin(name):
                manager.unregister(name=name)
            if isinstance(error, pluggy.PluginValidationError):
                raise PluginError(f"{error}; the hooks are {known}") from error
            raise

    def _provided(self, hooks: _Hooks, hook: str, kind: type[_Record]) -> dict[str, _Record]:
        """Return the records of a provider hook by name.

        Raises PluginError for a result that is not an iterable of `kind`, a duplicate name, and a name that another
        plugin or OneTrunk has.
        """
        found: dict[str, _Record] = {}
        for implementation in hooks.get(hook, ()):
            records = implementation.function()
            if not isinstance(records, Iterable):
                raise PluginError(
                    f"{hook}() must return an iterable of {kind.__name__}, not {_type(records)}"
                )
            for record in records:
                if not isinstance(record, kind):
                    raise PluginError(f"{hook}() must return {kind.__name__} records, not {_type(record)}")
                what = f"{hook.removesuffix('s')} {record.name!r}"
                if record.name in found:
                    raise PluginError(f"{what} occurs twice; use different names")
                owner = self._owners.get((hook, record.name))
                if owner or (hook == "commands" and record.name in OWN_COMMANDS):
                    whose = f"plugin {owner}" if owner else "onetrunk itself"
                    raise PluginError(f"{what} already belongs to {whose}; use another name")
                found[record.name] = record
        return found


def _type(value: object) -> str:
    return "None" if value is None else type(value).__name__
