"""`adapters plugins`: list the plugins, what they provide, and errors in them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.output import emit_json, json_option, printable, say, table

if TYPE_CHECKING:
    from onetrunk.core.plugin_system.host import PluginReport

_COLUMNS = ("plugin", "distribution", "tasks", "hooks", "commands", "state")


@click.command("plugins")
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the installed plugins with their tasks, hooks and commands.

    A broken plugin is listed with the reason. It does not affect other plugins, and the exit code is 0.

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
            say(printable(f"{report}: {report.error}"), fg="red")


def _row(report: PluginReport) -> tuple[str, ...]:
    return (
        report.name,
        f"{report.distribution} {report.version}",
        ", ".join(report.tasks),
        ", ".join(report.hooks),
        ", ".join(report.commands),
        _state(report),
    )


def _state(report: PluginReport) -> str:
    if report.error is not None:
        return "broken"
    # A common mistake: pluggy ignores a hook function without the decorator.
    return "ok" if report.hooks else "no function marked @hookimpl"
