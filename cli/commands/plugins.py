"""`adapters plugins`: list the plugins with their tasks, hooks, commands and errors."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.output import emit_json, json_option, say, table

if TYPE_CHECKING:
    from onetrunk.core.plugin_system.host import PluginReport

_COLUMNS = ("plugin", "distribution", "tasks", "hooks", "commands", "state")


@click.command("plugins")
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the installed plugins with their tasks, hooks and commands.

    A broken plugin is listed with the reason. It does not affect other plugins, and the exit code is still 0.

    \b
    Example:
      adapters plugins
      adapters plugins --json
    """
    reports = plugin_host(context).plugins
    if as_json:
        emit_json([asdict(report) for report in reports])
        return
    table(_COLUMNS, map(_row, reports))
    for report in reports:
        if report.error is not None:
            say(f"{report}: {report.error}", fg="red")


def _row(report: PluginReport) -> tuple[str, ...]:
    # pluggy ignores a function without the decorator, which is a common mistake.
    state = "ok" if report.hooks else "no function marked @hookimpl"
    lists = map(", ".join, (report.tasks, report.hooks, report.commands))
    source = f"{report.distribution} {report.version}"
    return report.name, source, *lists, state if report.error is None else "broken"
