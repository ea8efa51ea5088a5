"""A Hub, two people's stores and a process that runs their `adapters` lines: what tests of sharing stand on."""

from __future__ import annotations

import json
import re
import shutil
from hashlib import sha256
from pathlib import Path

from tests.hub_child import Child, Line
from tests.hub_server import HubServer, Repo

REPO = "ada/mood"
Files = dict[str, bytes]


class World:
    """A Hub with the user ada, two people's stores, and a process that runs their lines."""

    def __init__(self, hub: HubServer, child: Child, folder: Path, stock: Path, backbone: Path) -> None:
        self.hub, self._child, self.backbone = hub, child, backbone
        self.ada, self.bob = folder / "ada", folder / "bob"
        shutil.copytree(stock, self.ada)
        self.token = hub.add_user("ada")

    def run(
        self,
        *arguments: object,
        home: Path | None = None,
        token: str | None = "",
        input: str | None = None,
        **environment: str,
    ) -> Line:
        given = self.token if token == "" else token
        return self._child(*arguments, home=home or self.ada, token=given, input=input, **environment)

    def push(self, *arguments: object, ref: str = "mood@1", target: str = REPO) -> Line:
        return self.run("push", ref, target, "--json", *arguments)

    def pull(self, source: str = REPO, *arguments: object, token: str | None = "") -> Line:
        options = ("--backbone", self.backbone, "--json", *arguments)
        return self.run("pull", source, *options, home=self.bob, token=token)


def done(line: Line) -> Line:
    """Return a line that was carried out."""
    assert line.code == 0, line.err
    return line


def refused(line: Line, reason: str) -> Line:
    """Return a line that failed as it should: exit code 1, one error in words that match `reason`."""
    assert line.code == 1, (line.out, line.err)
    assert re.search(reason, line.err), line.err
    assert "unexpected:" not in line.err, line.err
    return line


def rubbish(store: Path) -> list[str]:
    """Return the files of a store that belong to no version: all but its lock."""
    return sorted(
        str(path.relative_to(store))
        for path in store.rglob("*")
        if path.is_file() and path.name not in (".lock", "adapter.json") and not path.parent.name.isdecimal()
    )


def files_of(repo: Repo) -> Files:
    """Return what a push has put into a repo."""
    return {name: data for name, data in repo.files().items() if not name.startswith(".")}


def is_whole(files: Files) -> bool:
    """Tell whether these are just the files of an artifact, each as its task.json says."""
    records = json.loads(files["task.json"])["files"]
    return files.keys() - {"task.json"} == records.keys() and all(
        (sha256(files[name]).hexdigest(), len(files[name])) == (record["sha256"], record["bytes"])
        for name, record in records.items()
    )
