"""What is known of models: one, a list of them, their files and commits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlencode

from tests.hub_server.cards import card_of, tags_of
from tests.hub_server.repos import Commit, File, Repo
from tests.hub_server.state import State, User, commit_at, no_entry
from tests.hub_server.wire import Call, HubError, Reply

_SORTS = ("lastModified", "createdAt", "downloads", "likes", "trendingScore")
_SHORT = (
    "_id",
    "id",
    "modelId",
    "private",
    "likes",
    "downloads",
    "tags",
    "library_name",
    "pipeline_tag",
    "createdAt",
)


def info(hub: State, call: Call, user: User | None, id: str, rev: str = "main") -> Reply:
    repo = hub.readable(user, id)
    commit = commit_at(repo, rev)
    return Reply.json(_shown(call, _about(repo, commit, blobs=call.flag("blobs"))))


def list_models(hub: State, call: Call, user: User | None) -> Reply:
    """The newest first; with `sort`, those with the most of it."""
    repos = [repo for repo in reversed(hub.repos.values()) if hub.may_read(user, repo)]
    found = [about for about in (_about(repo, repo.at()) for repo in repos) if _matches(call, about)]
    if sort := call.first("sort"):
        if sort not in _SORTS:
            raise HubError(400, f'"sort" must be one of {", ".join(_SORTS)}')
        found.sort(key=lambda about: about[sort], reverse=True)
    limit = call.first("limit", str(hub.page))
    if not limit.isdigit() or not int(limit):
        raise HubError(400, '"limit" must be a positive number')
    short = not call.flag("full") and not call.request.query.get("expand")
    kept = (*_SHORT, "cardData") if call.flag("cardData") else _SHORT
    listed = [{key: about[key] for key in kept} if short else _shown(call, about) for about in found]
    return _page(hub, call, listed, min(int(limit), hub.page))


def tree(hub: State, call: Call, user: User | None, id: str, rev: str, path: str = "") -> Reply:
    repo = hub.readable(user, id)
    commit = commit_at(repo, rev)
    prefix = f"{path.strip('/')}/" if path.strip("/") else ""
    entries = [entry for entry in _entries(repo, commit, call.flag("expand")) if _under(entry, prefix)]
    if prefix and not entries:
        raise no_entry(commit, f"{path} does not exist on {rev}")
    if not call.flag("recursive"):
        entries = [entry for entry in entries if "/" not in entry["path"].removeprefix(prefix)]
    limit = call.first("limit", str(hub.page))
    return _page(hub, call, entries, min(int(limit), hub.page))


def paths_info(hub: State, call: Call, user: User | None, id: str, rev: str) -> Reply:
    repo = hub.readable(user, id)
    commit = commit_at(repo, rev)
    form = parse_qs(call.body.decode())
    wanted = {path.strip("/") for path in form.get("paths", [])}
    expand = form.get("expand", ["false"])[0].lower() == "true"
    return Reply.json([entry for entry in _entries(repo, commit, expand) if entry["path"] in wanted])


def commits(hub: State, call: Call, user: User | None, id: str, rev: str) -> Reply:
    repo = hub.readable(user, id)
    commit_at(repo, rev)
    found = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.description,
            "authors": [{"user": commit.author}],
            "date": commit.date,
        }
        for commit in repo.commits(rev)
    ]
    return _page(hub, call, found, hub.page)


def _about(repo: Repo, commit: Commit, *, blobs: bool = False) -> dict[str, Any]:
    """All that is known of a model; its card is that of main, whatever the revision."""
    files = repo.at().files
    card = card_of(files)
    return {
        "_id": hashlib.sha256(repo.id.encode()).hexdigest()[:24],
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.namespace,
        "sha": commit.oid,
        "lastModified": commit.date,
        "createdAt": repo.created,
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "trendingScore": 0,
        "tags": tags_of(files, card),
        "library_name": card.get("library_name"),
        "pipeline_tag": card.get("pipeline_tag"),
        "cardData": json.loads(json.dumps(card, default=str)),  # YAML has dates
        "siblings": [
            {"rfilename": path, **(_blob(file) if blobs else {})} for path, file in commit.files.items()
        ],
        "usedStorage": sum(map(len, repo.objects.values())),
    }


def _blob(file: File) -> dict[str, Any]:
    lfs = {"sha256": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
    return {"blobId": file.blob_id, "size": len(file.data), **({"lfs": lfs} if file.lfs else {})}


def _shown(call: Call, about: dict[str, Any]) -> dict[str, Any]:
    """Only what `expand` asks for, if it asks."""
    expand = call.request.query.get("expand", []) + call.request.query.get("expand[]", [])
    return {key: about.get(key) for key in ("_id", "id", *expand)} if expand else about


def _matches(call: Call, about: Mapping[str, Any]) -> bool:
    query = call.request.query
    tags = {tag.lower() for tag in about["tags"]}
    wanted = [tag for value in query.get("filter", []) for tag in value.lower().split(",")]
    return (
        tags.issuperset(wanted)
        and call.first("search").lower() in about["id"].lower()
        and call.first("author", about["author"]) == about["author"]
        and call.first("pipeline_tag", about["pipeline_tag"]) == about["pipeline_tag"]
    )


def _entries(repo: Repo, commit: Commit, expand: bool) -> list[dict[str, Any]]:
    """Files and folders of a commit by path, in the Hub's words."""
    found: dict[str, dict[str, Any]] = {}
    for path, file in commit.files.items():
        entry = {"type": "file", "oid": file.blob_id, "size": len(file.data), "path": path}
        lfs = {"oid": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
        found[path] = {**entry, "lfs": lfs} if file.lfs else entry
        parts = path.split("/")
        for folder in ("/".join(parts[:depth]) for depth in range(1, len(parts))):
            inside = [(p, f.blob_id) for p, f in commit.files.items() if p.startswith(f"{folder}/")]
            oid = hashlib.sha1(repr(inside).encode()).hexdigest()
            found[folder] = {"type": "directory", "oid": oid, "size": 0, "path": folder}
    history = repo.commits(commit.oid) if expand else []
    for path, entry in found.items() if expand else ():
        last = _last(history, path)
        entry["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date}
    return [found[path] for path in sorted(found)]


def _last(history: Sequence[Commit], path: str) -> Commit:
    """The commit that last changed a file or folder, of a history with the newest first."""

    def inside(commit: Commit) -> list[tuple[str, str]]:
        return [(p, f.blob_id) for p, f in commit.files.items() if p == path or p.startswith(f"{path}/")]

    return next((new for new, old in pairwise(history) if inside(new) != inside(old)), history[-1])


def _under(entry: Mapping[str, Any], prefix: str) -> bool:
    return str(entry["path"]).startswith(prefix)


def _page(hub: State, call: Call, items: Sequence[Any], size: int) -> Reply:
    """As many of the items as go on a page, with a link to the next."""
    start = int(call.first("cursor", "0"))
    links = {}
    if start + size < len(items):
        query = urlencode({**call.request.query, "cursor": [str(start + size)]}, doseq=True)
        links["Link"] = f'<{hub.url}{call.target.split("?")[0]}?{query}>; rel="next"'
    return Reply.json(items[start : start + size], 200, **links)
