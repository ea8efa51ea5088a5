"""A click group that imports a command only when it is used.

`--help` imports no command, so it is fast, and a broken command cannot stop it. Plugins are discovered when all
commands are listed, and when a command is not a built-in one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from onetrunk.cli.output import printable
from onetrunk.core.errors import PluginError
from onetrunk.core.plugin_system.host import PluginHost

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_HOST = "onetrunk.plugin_host"
"""Key of the plugin host in the context of a command."""


def plugin_host(context: click.Context) -> PluginHost:
    """Return the host of all installed plugins; they are discovered once per process."""
    if _HOST not in context.meta:
        with redirect_stdout(sys.stderr):  # what a plugin prints on import must not mix with results
            context.meta[_HOST] = PluginHost.discover()
    host: PluginHost = context.meta[_HOST]
    return host


_REFERENCES = {
    "people": "the current version of the adapter people in the store",
    "people@latest": "its newest version",
    "people@3": "its version 3",
    "people@prod": "the version that has the alias prod (see `adapters alias`)",
    "org/repo, org/repo@v1": "an adapter on the Hugging Face Hub; v1 is a branch, tag or commit",
    "file:///mnt/models/people": "an adapter in a shared folder",
}
"""The forms of a reference."""
_SEE_REFERENCES = "`adapters --help` lists the forms of a reference (REF)."


class LazyGroup(click.Group):
    """The built-in commands, then those of plugins.

    summaries: the summary of each built-in command, by name. The command NAME is the attribute `command` of the
    module `onetrunk.cli.commands.NAME`.
    groups: the names of the built-in commands by the title of their section in the help.
    """

    def __init__(
        self, *args: Any, summaries: Mapping[str, str], groups: Mapping[str, Sequence[str]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.summaries, self.groups = summaries, groups

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return [*self.summaries, *plugin_host(ctx).commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, None for an unknown one.

        Raises PluginError if a command of a plugin cannot be imported.
        """
        if cmd_name in self.summaries:
            command: click.Command = importlib.import_module(f"onetrunk.cli.commands.{cmd_name}").command
            if any("REF" in each.make_metavar(ctx) for each in command.params):
                command.epilog = _SEE_REFERENCES
            return command
        return _plugin_command(plugin_host(ctx), cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args[0]` names. Raises UsageError, with similar names, for an unknown one."""
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing:
            raise click.UsageError(_unknown(args[0], self.list_commands(ctx), plugin_host(ctx)), ctx)
        return args[0] if command else None, command, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups of commands, the commands of plugins, plugins that failed to load, and references."""
        host = plugin_host(ctx)
        sections: dict[str, Mapping[str, str]] = {
            title: {name: self.summaries[name] for name in names if name in self.summaries}
            for title, names in self.groups.items()
        }
        sections |= {
            "Plugin commands": {name: command.summary for name, command in host.commands.items()},
            "Plugins that did not load (see `adapters plugins`)": {
                report.name: f"{report.distribution} {report.version}" for report in host.broken
            },
            "References to adapters (REF)": _REFERENCES,
        }
        for title, texts in sections.items():
            if texts:
                with formatter.section(title):
                    formatter.write_dl([(printable(name), printable(text)) for name, text in texts.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands and options without importing a command."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [*map(CompletionItem, names), *click.Command.shell_complete(self, ctx, incomplete)]


def _plugin_command(host: PluginHost, name: str) -> click.Command | None:
    if name not in host.commands:
        return None
    target, owner = host.commands[name].target, host.command_owner(name)
    module, _, attribute = target.partition(":")
    try:
        command = getattr(importlib.import_module(module), attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        fault = f"{type(error).__name__}: {error}"
        raise PluginError(
            f"command {name!r} of plugin {owner}: {target} cannot be imported: {fault}"
        ) from error
    if not isinstance(command, click.Command):
        raise PluginError(f"command {name!r} of plugin {owner}: {target} is not a click command")
    return command


def _unknown(name: str, known: list[str], host: PluginHost) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    broken = ", ".join(map(str, host.broken))
    also = f" These plugins did not load: {broken} (see `adapters plugins`)." if broken else ""
    return f"no command {name!r}{hint or '.'}{also}"
