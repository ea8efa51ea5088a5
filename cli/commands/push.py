"""`adapters push`: publish a version of the store to the Hub or a shared folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from onetrunk.adapters.card import CardMetadata
from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.remotes import open_remote
from onetrunk.adapters.remotes.locations import Location, is_revision
from onetrunk.adapters.remotes.remote import MAIN, Published
from onetrunk.adapters.store.store import Store
from onetrunk.cli.lazy import plugin_host
from onetrunk.cli.number_format import counted, size
from onetrunk.cli.output import emit_json, json_option, say
from onetrunk.cli.sharing import quiet_hub, read_token, token_option
from onetrunk.core.errors import UsageError
from onetrunk.core.sharing.push import PreparedPush, PushOptions, Requirement, check_push, publish


@click.command("push")
@click.argument("ref")
@click.argument("target")
@click.option("--private", is_flag=True, help="If the repo does not exist, create it as a private one.")
@click.option("--tag", metavar="V", help="Tag for the commit, such as v3.")
@click.option("--branch", metavar="B", default=MAIN, show_default=True, help="Branch to push to.")
@click.option("--create-pr", "pull_request", is_flag=True, help="Open a pull request instead of pushing.")
@click.option("--message", "-m", metavar="M", help="Commit message.  [default: the version, such as ner@3]")
@click.option(
    "--require",
    metavar="METRIC>=X",
    multiple=True,
    help="Publish only if METRIC>=X on held-out data; repeatable.",
)
@click.option(
    "--force", is_flag=True, help="Publish even if the published version is better on the same data."
)
@click.option("--allow-unevaluated", is_flag=True, help="Publish even without metrics on held-out data.")
@click.option("--license", "license_", metavar="L", help="License of the adapter, such as apache-2.0.")
@click.option("--language", metavar="L", multiple=True, help="Language of the texts, such as en; repeatable.")
@click.option("--dataset", metavar="D", multiple=True, help="Hub id of the training data; repeatable.")
@click.option("--dry-run", is_flag=True, help="Only run the checks and print what would be published.")
@token_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    ref: str,
    target: str,
    dry_run: bool,
    token_file: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Publish the adapter REF to TARGET (ORG/REPO or file:///FOLDER), as one commit.

    The adapter is verified first. It is not published if it has no metrics on held-out data (test data, or dev data
    if there was no test data), if the published version is better on the same data, or if the repo has files that
    are not of an adapter or an adapter for another task. The text under `## Notes` of the published model card is
    kept.

    \b
    Example:
      adapters push ner acme/ner --tag v3 --require "f1>=0.9"
      adapters push ner@prod acme/ner --private --dry-run
      adapters push ner file:///mnt/models/ner
    """
    location, options = _target(target), _options(**given)
    stored = Store().resolve(ref)
    spec = plugin_host(context).task(read_manifest(stored.path).task)
    quiet_hub()
    remote = open_remote(location, read_token(token_file))
    push = check_push(stored, spec, remote, options)
    done = None
    if not dry_run and not push.unchanged:
        remote.create(options.private)
        with tempfile.TemporaryDirectory() as folder:
            done = publish(push, remote, Path(folder), options)
    elif not dry_run and options.tag is not None and push.parent is not None:
        remote.tag(options.tag, push.parent)
    if as_json:
        emit_json(_record(location, push, done, options, dry_run))
    else:
        for line in _text(location, push, done, options, dry_run).splitlines():
            say(line)


def _target(text: str) -> Location:
    location = Location.parse(text)
    if location.revision is not None:
        raise UsageError(
            f"{text} has a revision; push to {location.base} and give the branch with --branch, the tag with --tag"
        )
    return location


def _options(
    require: tuple[str, ...], license_: str | None, language: Any, dataset: Any, **given: Any
) -> PushOptions:
    for option in ("branch", "tag"):
        if (name := given[option]) is not None and not is_revision(name):
            raise UsageError(f"--{option} {name!r}: expected a name of letters, digits and . _ - /")
    return PushOptions(
        **given,
        require=tuple(map(Requirement.parse, require)),
        card=CardMetadata(license=license_, languages=tuple(language), datasets=tuple(dataset)),
    )


def _record(
    location: Location, push: PreparedPush, done: Published | None, options: PushOptions, dry_run: bool
) -> dict[str, Any]:
    return {
        "ref": push.stored.ref,
        "target": str(location),
        "branch": options.branch,
        "tag": options.tag,
        "dry_run": dry_run,
        "unchanged": push.unchanged,
        "files": {name: len(data) for name, data in sorted(push.files.items())},
        "commit": push.parent if push.unchanged else done and done.commit,
        "url": done and done.url,
        "pull_request": done and done.pull_request,
    }


def _text(
    location: Location, push: PreparedPush, done: Published | None, options: PushOptions, dry_run: bool
) -> str:
    total = sum(map(len, push.files.values()))
    what = f"{push.stored.ref}, {counted(len(push.files), 'file')}, {size(total)}"
    if done is not None:
        return f"published {what}\ncommit {done.commit}\n{done.pull_request or done.url}"
    if not push.unchanged:
        return f"would publish {what} to {location}, branch {options.branch}"
    text = f"{location} already has {push.stored.ref}, in commit {push.parent}; nothing was published"
    return text if options.tag is None or dry_run else f"{text}, except for the new tag {options.tag}"
