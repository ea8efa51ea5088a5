"""`adapters search`: find adapters on the Hub."""

from __future__ import annotations

from dataclasses import asdict

import click

from onetrunk.adapters.remotes.hub_search import SearchResult, search
from onetrunk.cli.number_format import format_metric, size
from onetrunk.cli.output import emit_json, json_option, say, table
from onetrunk.cli.sharing import quiet_hub, read_token, token_option


@click.command("search")
@click.argument("query", required=False)
@click.option("--task", metavar="T", help="Only adapters of this task.")
@click.option("--backbone", metavar="B", help="Only adapters for this backbone (a Hub id).")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Maximum number of results."
)
@token_option
@json_option
def command(
    query: str | None,
    task: str | None,
    backbone: str | None,
    limit: int,
    token_file: str | None,
    as_json: bool,
) -> None:
    """List adapters on the Hub, newest first; with QUERY, only those whose name contains QUERY.

    The table shows what the authors have published, unchecked. `adapters pull` checks an adapter.

    \b
    Example:
      adapters search --task ner
      adapters search acme --backbone sentence-transformers/all-MiniLM-L6-v2 --json
    """
    quiet_hub()
    found = search(query, task, backbone, limit, read_token(token_file))
    if as_json:
        emit_json([{**asdict(each), "metric": each.metric and dict([each.metric])} for each in found])
    elif not found:
        say("No adapters found.")
    else:
        columns = ("repo", "task", "result", "backbone", "size", "updated (UTC)")
        table(columns, map(_row, found), right=["size"])


def _row(each: SearchResult) -> tuple[str, ...]:
    metric = "" if each.metric is None else f"{each.metric[0]} {format_metric(each.metric[1])}"
    updated = (each.updated or "")[:16].replace("T", " ")
    size_of = "" if each.bytes is None else size(each.bytes)
    return each.repo, each.task or "", metric, each.backbone or "", size_of, updated
