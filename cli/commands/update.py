"""`adapters update`: pull newer commits of what was pulled."""

from __future__ import annotations

import click

from onetrunk.adapters.errors import RemoteError
from onetrunk.adapters.store.store import Store
from onetrunk.cli.commands.pull import record_of
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.output import emit_json, json_option, printable
from onetrunk.cli.sharing import pulling, read_token, token_option
from onetrunk.core.errors import OneTrunkError
from onetrunk.core.sharing.outdated import followed


@click.command("update")
@click.argument("name", required=False)
@click.option(
    "--backbone", metavar="B", help="Hub id or folder of the backbone.  [default: the adapter's own]"
)
@token_option
@json_option
@click.pass_context
def command(
    context: click.Context, name: str | None, backbone: str | None, token_file: str | None, as_json: bool
) -> None:
    """Pull what `adapters outdated` lists (or NAME alone), each as a new version.

    \b
    Example:
      adapters update
      adapters update ner --json
    """
    store, token = Store(), read_token(token_file)
    if name is not None:
        store.resolve(name)
    found = followed(store, store.names() if name is None else [name], token)
    faults = [each.fault for each in found if each.fault is not None]
    records = []
    with pulling(plugin_host(context), backbone, token) as puller:
        for each in (own for own in found if own.is_outdated):
            try:
                pulled = puller.pull(each.location, each.stored.name)
            except OneTrunkError as error:  # one that is damaged there keeps no other from its update
                faults.append(f"{each.stored.ref}: {error}")
                continue
            records.append(record_of(pulled))
            if not as_json:
                click.echo(printable(f"pulled {pulled.stored.ref} from {pulled.stored.origin}"))
    if as_json:
        emit_json({"updated": records, "errors": faults})
    elif not records and not faults:
        click.echo("Nothing that was pulled is outdated." if found else "Nothing was pulled.")
    if faults:
        raise RemoteError("update", "; ".join(faults))
