"""`adapters update`: pull newer commits of the adapters that were pulled before."""

from __future__ import annotations

import click

from onetrunk.adapters.errors import RemoteError
from onetrunk.adapters.store.store import Store
from onetrunk.cli.commands.pull import record_of
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.options import backbone_option
from onetrunk.cli.output import emit_json, json_option, note, say
from onetrunk.cli.sharing import pulling, read_token, token_option
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.sharing.outdated import tracked_adapters


@click.command("update")
@click.argument("name", required=False)
@backbone_option()
@token_option
@json_option
@click.pass_context
def command(
    context: click.Context, name: str | None, backbone: str | None, token_file: str | None, as_json: bool
) -> None:
    """Pull the newer commits that `adapters outdated` lists, each as a new version; with NAME, only those of NAME.

    A name is skipped if its newest version was trained on this machine.

    \b
    Example:
      adapters update
      adapters update ner --json
    """
    token = read_token(token_file)
    found = tracked_adapters(Store(), name, token)
    faults = [each.fault for each in found if each.fault is not None]
    skipped: list[str] = []
    records = []
    with pulling(plugin_host(context), backbone, token) as puller:
        for each in (own for own in found if own.is_outdated):
            if each.later is not None:
                later, lines = each.later, skipped if name is None else faults
                lines.append(
                    f"{later.name} is not updated: {later.ref} was trained on this machine after {each.stored.ref} "
                    "was pulled; to add the new commit anyway, run "
                    f"`adapters pull {each.location} --into {later.name}`"
                )
                continue
            try:
                pulled = puller.pull(each.location, each.stored.name)
            except OneTrunkError as error:  # the other adapters are still updated
                faults.append(f"{each.stored.ref}: {error}")
                continue
            records.append(record_of(pulled))
            if not as_json:
                say(f"pulled {pulled.stored.ref} from {pulled.stored.origin}")
    for line in skipped:
        note(f"note: {line}")
    if as_json:
        emit_json({"updated": records, "skipped": skipped, "errors": faults})
    elif not records and not faults and not skipped:
        say("All pulled adapters are up to date." if found else "The store has no pulled adapters.")
    if faults:
        raise RemoteError("update", "; ".join(faults))
