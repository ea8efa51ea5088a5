"""Registration of a plugin: checks of its hooks and of the records that they return."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import pluggy

from onetrunk.core.errors import PluginError
from onetrunk.core.tasks import TaskSpec, hookspecs
from onetrunk.core.tasks.hookspecs import PROJECT, CommandSpec

Record = TypeVar("Record", TaskSpec, CommandSpec)
Hooks = Mapping[str, list[pluggy.HookImpl]]
"""The implementations of a plugin by the name of the hook."""


def new_manager() -> pluggy.PluginManager:
    """Return a plugin manager with the hooks of OneTrunk and no plugins."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


@contextlib.contextmanager
def registered(manager: pluggy.PluginManager, plugin: object, name: str) -> Iterator[Hooks]:
    """Register `plugin` and yield its hook implementations; if the block raises, unregister it again.

    Raises PluginError for a plugin that is already registered, an unknown hook, an unknown argument of a hook, and
    a hook wrapper.
    """
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
        yield _implementations(manager, plugin)
    except BaseException as error:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        if isinstance(error, pluggy.PluginValidationError):
            raise PluginError(f"{error}; the hooks are {known}") from error
        raise


def _implementations(manager: pluggy.PluginManager, plugin: object) -> Hooks:
    callers = manager.get_hookcallers(plugin) or []
    hooks = {hook.name: [it for it in hook.get_hookimpls() if it.plugin is plugin] for hook in callers}
    for hook, implementations in hooks.items():
        if any(it.wrapper or it.hookwrapper for it in implementations):
            raise PluginError(f"{hook} is a hook wrapper, which is not supported; implement the hook itself")
    return hooks


def provided(hooks: Hooks, hook: str, kind: type[Record]) -> Iterator[Record]:
    """Yield the records that the implementations of `hook` return. Raises PluginError unless each is a `kind`."""
    for implementation in hooks.get(hook, ()):
        records = implementation.function()
        if not isinstance(records, Iterable):
            raise PluginError(f"{hook}() must return an iterable of {kind.__name__}, not {_type(records)}")
        for record in records:
            if not isinstance(record, kind):
                raise PluginError(f"{hook}() must return {kind.__name__} records, not {_type(record)}")
            yield record


def by_name(records: Iterable[Record], owner_of: Callable[[str], str | None]) -> dict[str, Record]:
    """Return `records` by name. Raises PluginError for a duplicate name, and for one that another plugin has.

    owner_of: name → the plugin that already has it, for messages; None for a free name.
    """
    found: dict[str, Record] = {}
    for record in records:
        what = f"{'task' if isinstance(record, TaskSpec) else 'command'} {record.name!r}"
        if record.name in found:
            raise PluginError(f"{what} occurs twice; use different names")
        if owner := owner_of(record.name):
            raise PluginError(f"{what} already belongs to {owner}; use another name")
        found[record.name] = record
    return found


def _type(value: object) -> str:
    return "None" if value is None else type(value).__name__
