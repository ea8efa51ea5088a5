"""`adapters outdated`: list pulled adapters whose branch or tag has a newer commit."""

from __future__ import annotations

from typing import Any

import click

from onetrunk.adapters.store.store import Store
from onetrunk.cli.output import emit_json, json_option, say, table
from onetrunk.cli.sharing import quiet_hub, read_token, token_option
from onetrunk.core.sharing.outdated import TrackedAdapter, tracked_adapters


@click.command("outdated")
@click.argument("name", required=False)
@token_option
@json_option
def command(name: str | None, token_file: str | None, as_json: bool) -> None:
    """List pulled adapters whose branch or tag has a newer commit; with NAME, only that adapter.

    An adapter that was used by its location, without `adapters pull`, is listed only if it is NAME. Each use of the
    location already looks for a newer commit.

    \b
    Example:
      adapters outdated
      adapters outdated --json
    """
    quiet_hub()
    found = tracked_adapters(Store(), name, read_token(token_file))
    if as_json:
        emit_json([_record(each) for each in found])
        return
    shown = [each for each in found if each.is_outdated or each.fault]
    if not shown:
        say("All pulled adapters are up to date." if found else "The store has no pulled adapters.")
        return
    table(("adapter", "from", "branch or tag", "commit", "newest commit"), map(_row, shown))


def _row(each: TrackedAdapter) -> tuple[str, ...]:
    newest = str(each.newest)[:12] if each.fault is None else each.fault
    return each.stored.ref, each.origin.place, each.origin.follows, each.origin.commit[:12], newest


def _record(each: TrackedAdapter) -> dict[str, Any]:
    return {
        "ref": each.stored.ref,
        "place": each.origin.place,
        "follows": each.origin.follows,
        "commit": each.origin.commit,
        "newest": each.newest,
        "outdated": each.is_outdated,
        "error": each.fault,
    }
