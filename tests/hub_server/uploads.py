"""Files on their way to the Hub: asked about, uploaded, committed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from tests.hub_server.cards import problems
from tests.hub_server.repos import Commit, File, Repo
from tests.hub_server.state import State, User, commit_at, no_entry, text
from tests.hub_server.wire import Call, HubError, Reply

_MOST = 256
_PATH = re.compile(r"(?!.*(^|/)(\.{0,2}|\.git)(/|$))[^\x00-\x1f\\]+")


def preupload(hub: State, call: Call, user: User | None, id: str, rev: str) -> Reply:
    repo = hub.writable(user, id, pull=_pulls(call, rev))
    commit = commit_at(repo, rev)
    files = call.json().get("files", [])
    if len(files) > _MOST:
        raise HubError(400, f"at most {_MOST} files")
    return Reply.json({"files": [_mode(repo, commit, file) for file in files]})


def lfs_batch(hub: State, call: Call, user: User | None, id: str) -> Reply:
    repo = hub.writable(user, id, pull=True)
    objects = call.json().get("objects", [])
    return Reply.json({"transfer": "basic", "objects": [_actions(hub, repo, each) for each in objects]})


def lfs_verify(hub: State, call: Call, user: User | None, id: str) -> Reply:
    repo, sent = hub.writable(user, id, pull=True), call.json()
    if len(repo.objects.get(text(sent, "oid"), b"")) != sent.get("size"):
        raise HubError(404, "the object was not uploaded")
    return Reply.json({"success": True})


def put_object(hub: State, call: Call, user: User | None) -> Reply:
    """The upload itself, to a signed URL. Raises HubError for a body that is not the one announced."""
    link = hub.links.get(call.first("key"))
    if link is None or link.method != "PUT":
        raise HubError(403, "Request has expired")
    if len(call.body) != link.size or hashlib.sha256(call.body).hexdigest() != link.oid:
        raise HubError(400, "BadDigest: the sha256 you specified did not match the calculated checksum.")
    link.repo.objects[link.oid] = call.body
    return Reply(headers={"ETag": f'"{link.oid}"'})


def commit(hub: State, call: Call, user: User | None, id: str, rev: str) -> Reply:
    repo = hub.writable(user, id, pull=_pulls(call, rev))
    header, *operations = _lines(call.body)
    if header["key"] != "header":
        raise HubError(400, "the first line must be the header")
    head, about = commit_at(repo, rev), header["value"]
    ref = rev if rev.startswith("refs/pr/") else f"refs/heads/{rev}"
    if ref not in repo.refs:
        raise HubError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
    if about.get("parentCommit") not in (None, head.oid):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    changes = _changes(repo, head, operations)
    new_pull = call.flag("create_pr")
    if new_pull:
        ref = f"refs/pr/{max(repo.pulls, default=0) + 1}"
    made = repo.record(
        changes,
        title=text(about, "summary"),
        description=about.get("description") or "",
        author=user.name if user else "",
        ref=ref,
        start=head.oid if new_pull else None,
    )
    url = f"{hub.url}/{repo.id}/discussions/{ref.rsplit('/')[-1]}"
    return Reply.json(
        {
            "success": True,
            "commitOid": made.oid,
            "commitUrl": f"{hub.url}/{repo.id}/commit/{made.oid}",
            "hookOutput": "",
            **({"pullRequestUrl": url} if new_pull else {}),
        }
    )


def _pulls(call: Call, rev: str) -> bool:
    return call.flag("create_pr") or rev.startswith("refs/pr/")


def _mode(repo: Repo, commit: Commit, file: dict[str, Any]) -> dict[str, Any]:
    """How a file is to be uploaded; oid: of the file that is there now, which the client compares."""
    path = text(file, "path")
    sample = base64.b64decode(file.get("sample", ""))
    lfs = repo.wants_lfs(path, int(file.get("size", 0)), sample, commit.oid)
    there = {"oid": commit.files[path].etag} if path in commit.files else {}
    return {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, **there}


def _actions(hub: State, repo: Repo, wanted: dict[str, Any]) -> dict[str, Any]:
    """Where to upload an object; nowhere if the repo has it."""
    oid, size = text(wanted, "oid"), int(wanted.get("size", -1))
    if oid in repo.objects:
        return {"oid": oid, "size": size}
    upload = {"href": hub.link("PUT", repo, oid, size, oid)}
    verify = {"href": f"{hub.url}/{repo.id}.git/info/lfs/objects/verify"}
    return {"oid": oid, "size": size, "authenticated": True, "actions": {"upload": upload, "verify": verify}}


def _lines(body: bytes) -> Iterator[dict[str, Any]]:
    try:
        for line in body.splitlines():
            found = json.loads(line)
            yield {"key": found["key"], "value": dict(found["value"])}
    except (ValueError, KeyError, TypeError) as error:
        raise HubError(400, f"Invalid line of the commit: {error!r}") from error


def _changes(repo: Repo, head: Commit, operations: list[dict[str, Any]]) -> dict[str, File | None]:
    """Path → new file, None for one that goes. Raises HubError if any operation is impossible."""
    changes: dict[str, File | None] = {}
    for operation in operations:
        key, value = operation["key"], operation["value"]
        path = text(value, "path")
        if not _PATH.fullmatch(path.rstrip("/") if key == "deletedFolder" else path):
            raise HubError(400, f"Invalid path: {path}")
        match key:
            case "file":
                changes[path] = File(_content(value))
            case "lfsFile":
                changes[path] = File(_object(repo, text(value, "oid")), lfs=True)
            case "deletedFile" | "deletedFolder":
                gone = [p for p in head.files if p == path or p.startswith(f"{path.rstrip('/')}/")]
                gone = gone if key == "deletedFolder" else [p for p in gone if p == path]
                if not gone:
                    raise no_entry(head, f"A file with this name doesn't exist: {path}")
                changes.update(dict.fromkeys(gone))
            case _:
                raise HubError(400, f"Invalid operation: {key}")
    readme = changes.get("README.md")
    if readme is not None and (wrong := problems(readme.data.decode(errors="replace"))):
        raise HubError(400, "Invalid metadata in README.md: " + "; ".join(wrong))
    return changes


def _content(value: dict[str, Any]) -> bytes:
    if value.get("encoding") != "base64":
        return str(value.get("content", "")).encode()
    try:
        return base64.b64decode(value["content"], validate=True)
    except (KeyError, binascii.Error) as error:
        raise HubError(400, f"Invalid base64: {error!r}") from error


def _object(repo: Repo, oid: str) -> bytes:
    if oid not in repo.objects:
        raise HubError(400, f"LFS pointer pointed to a file that does not exist: {oid}")
    return repo.objects[oid]
