"""The trial of a plugin: its hooks, the records that it gives, and the reason when it fails."""

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
"""A plugin's implementations by the name of the hook."""


def new_manager() -> pluggy.PluginManager:
    """Return a manager that knows our hooks and no plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


@contextlib.contextmanager
def registered(manager: pluggy.PluginManager, plugin: object, name: str) -> Iterator[Hooks]:
    """Give what `plugin` implements; if the block passes it stays on `manager`, else nothing of it does.

    Raises PluginError for a plugin that is there already, for an unknown hook, for arguments that a hook does
    not have, and for wrappers.
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
        manager.check_pending()  # pluggy accepts a misspelt hook in silence
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
            raise PluginError(f"{hook} is a wrapper, but plugins are called one by one: nothing to wrap")
    return hooks


def given(hooks: Hooks, hook: str, kind: type[Record]) -> Iterator[Record]:
    """Yield what the implementations of `hook` give. Raises PluginError for what is no `kind`."""
    for implementation in hooks.get(hook, ()):
        records = implementation.function()
        if not isinstance(records, Iterable):
            raise PluginError(f"{hook}() must give an iterable of {kind.__name__}, not {_type(records)}")
        for record in records:
            if not isinstance(record, kind):
                raise PluginError(f"{hook}() must give {kind.__name__} records, not {_type(record)}")
            yield record


def by_name(records: Iterable[Record], taken: Callable[[str], str | None]) -> dict[str, Record]:
    """Return `records` by name. Raises PluginError for a name given twice, or with a holder in `taken`."""
    found: dict[str, Record] = {}
    for record in records:
        what = f"{'task' if isinstance(record, TaskSpec) else 'command'} {record.name!r}"
        if record.name in found:
            raise PluginError(f"{what} is given twice")
        if holder := taken(record.name):
            raise PluginError(f"{what} is already given by {holder}")
        found[record.name] = record
    return found


def _type(value: object) -> str:
    return "None" if value is None else type(value).__name__
