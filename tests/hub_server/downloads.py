"""Files on their way from the Hub: described, redirected to the storage, sent in whole or part."""

from __future__ import annotations

import re
from urllib.parse import quote

from tests.hub_server.state import State, User, commit_at, no_entry
from tests.hub_server.wire import Call, HubError, Reply


def resolve(hub: State, call: Call, user: User | None, id: str, rev: str, path: str) -> Reply:
    """A file, or for one in LFS the way to the storage, which is another origin as it is for the real Hub."""
    repo = hub.readable(user, id)
    commit = commit_at(repo, rev)
    if path not in commit.files:
        raise no_entry(commit)
    file = commit.files[path]
    about = {
        "X-Repo-Commit": commit.oid,
        "ETag": f'"{file.etag}"',
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(path.rsplit('/')[-1])}",
    }
    if not file.lfs:
        return _part(call, file.data, about)
    place = hub.link("GET", repo, file.sha256, len(file.data), path)
    linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.data))}
    return Reply(f"Found. Redirecting to {place}".encode(), 302, {**about, **linked, "Location": place})


def get_object(hub: State, call: Call, user: User | None) -> Reply:
    link = hub.links.get(call.first("key"))
    if link is None or link.method != "GET":
        raise HubError(403, "Request has expired")
    return _part(call, link.repo.objects[link.oid], {"ETag": f'"{link.oid}"'})


def _part(call: Call, data: bytes, about: dict[str, str]) -> Reply:
    """The bytes that the request's Range asks for; all without one, or with one of another form."""
    about = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **about}
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", call.request.range or "")
    if wanted is None or wanted[0] == "bytes=-":
        return Reply(data, 200, about)
    first = int(wanted[1]) if wanted[1] else max(len(data) - int(wanted[2]), 0)
    last = min(int(wanted[2]) if wanted[1] and wanted[2] else len(data) - 1, len(data) - 1)
    if first > last:
        raise HubError(416, "Range Not Satisfiable", Content_Range=f"bytes */{len(data)}")
    span = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
    return Reply(data[first : last + 1], 206, {**about, **span})
