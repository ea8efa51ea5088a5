"""Who one is; repos made, changed and deleted; refs of a repo."""

from __future__ import annotations

import re
from typing import Any

from tests.hub_server.cards import card, problems
from tests.hub_server.repos import Repo
from tests.hub_server.state import State, User, commit_at, no_repo, text
from tests.hub_server.wire import Call, HubError, Reply

_NAME = re.compile(r"(?!.*(--|\.\.))[\w](?:[\w.-]{0,94}[\w])?")
_REF = re.compile(r"(?!.*(\.\.|//|@\{|\.lock$))[^\s~^:?*\[\\\x00-\x20/][^\s~^:?*\[\\\x00-\x20]{0,254}")


def whoami(hub: State, call: Call, user: User | None) -> Reply:
    if user is None:
        raise HubError(401, "Invalid username or password.")
    token: dict[str, Any] = {"displayName": "tests", "role": user.role}
    if user.role == "none":
        token = {**token, "role": "fineGrained", "fineGrained": {"global": [], "scoped": []}}
    orgs = [{"type": "org", "name": name, "fullname": name, "roleInOrg": "write"} for name in user.orgs]
    about = {"type": "user", "id": user.name, "name": user.name, "fullname": user.name, "orgs": orgs}
    return Reply.json({**about, "auth": {"type": "access_token", "accessToken": token}})


def create_repo(hub: State, call: Call, user: User | None) -> Reply:
    if user is None:
        raise HubError(401, "Invalid username or password.")
    wanted = call.json()
    namespace, name = wanted.get("organization") or user.name, text(wanted, "name")
    if wanted.get("type", "model") != "model":
        raise HubError(400, "the test Hub has models only")
    if user.role != "write" or not user.owns(namespace):
        raise HubError(403, f'You don\'t have the rights to create a model under the namespace "{namespace}"')
    if not _NAME.fullmatch(name) or name.endswith(".git"):
        raise HubError(400, f"Invalid repo name: {namespace}/{name}")
    url = f"{hub.url}/{namespace}/{name}"
    if f"{namespace}/{name}" in hub.repos:
        return Reply.json({"error": "You already created this model repo", "url": url}, 409)
    repo = hub.create_repo(f"{namespace}/{name}", _private(wanted))
    return Reply.json({"url": url, "name": repo.id, "id": repo.id})


def delete_repo(hub: State, call: Call, user: User | None) -> Reply:
    wanted = call.json()
    namespace = wanted.get("organization") or (user.name if user else "")
    del hub.repos[hub.writable(user, f"{namespace}/{text(wanted, 'name')}").id]
    return Reply(b"OK")


def change_settings(hub: State, call: Call, user: User | None, id: str) -> Reply:
    repo, wanted = hub.writable(user, id), call.json()
    if "visibility" in wanted:
        repo.private = _private(wanted)
    return Reply.json({"private": repo.private})


def check_access(hub: State, call: Call, user: User | None, id: str) -> Reply:
    hub.readable(user, id)
    return Reply(b"OK")


def check_write_access(hub: State, call: Call, user: User | None, id: str) -> Reply:
    hub.writable(user, id)
    return Reply(b"OK")


def validate_card(hub: State, call: Call, user: User | None) -> Reply:
    content = call.json().get("content", "")
    errors = [{"message": problem} for problem in problems(content)]
    empty = not errors and not card(content)
    warnings = [{"message": "empty or missing yaml metadata in repo card"}] if empty else []
    return Reply.json({"errors": errors, "warnings": warnings}, 400 if errors else 200)


def refs(hub: State, call: Call, user: User | None, id: str) -> Reply:
    repo = hub.readable(user, id)

    def listed(prefix: str, cut: str) -> list[dict[str, str]]:
        found = [(ref, oid) for ref, oid in repo.refs.items() if ref.startswith(prefix)]
        return [{"name": ref.removeprefix(cut), "ref": ref, "targetCommit": oid} for ref, oid in found]

    found = {
        "branches": listed("refs/heads/", "refs/heads/"),
        "converts": [],
        "tags": listed("refs/tags/", "refs/tags/"),
    }
    pulls = {"pullRequests": listed("refs/pr/", "")} if call.flag("include_prs") else {}
    return Reply.json({**found, **pulls})


def create_tag(hub: State, call: Call, user: User | None, id: str, rev: str) -> Reply:
    repo, wanted = hub.writable(user, id), call.json()
    name = text(wanted, "tag")
    _add_ref(repo, f"refs/tags/{name}", name, rev, "Tag reference exists already")
    repo.messages[name] = wanted.get("message", "")
    return Reply.json({"success": True})


def delete_tag(hub: State, call: Call, user: User | None, id: str, rev: str) -> Reply:
    return _delete_ref(hub.writable(user, id), f"refs/tags/{rev}", rev)


def create_branch(hub: State, call: Call, user: User | None, id: str, rev: str) -> Reply:
    repo = hub.writable(user, id)
    start = call.json().get("startingPoint") or "main"
    _add_ref(repo, f"refs/heads/{rev}", rev, start, "Reference already exists")
    return Reply.json({"success": True})


def delete_branch(hub: State, call: Call, user: User | None, id: str, rev: str) -> Reply:
    repo = hub.writable(user, id)
    if rev == "main":
        raise HubError(403, "Cannot delete refs/heads/main")
    return _delete_ref(repo, f"refs/heads/{rev}", rev)


def no_such_repo(hub: State, call: Call, user: User | None) -> Reply:
    """What is asked of an id that no repo of ours can have."""
    raise no_repo(user)


def _private(wanted: dict[str, Any]) -> bool:
    visibility = wanted.get("visibility", "public")
    if visibility not in ("public", "private"):
        raise HubError(400, f"Invalid visibility: {visibility}")
    return bool(visibility == "private")


def _add_ref(repo: Repo, ref: str, name: str, revision: str, taken: str) -> None:
    target = commit_at(repo, revision).oid
    if not _REF.fullmatch(name):
        raise HubError(400, f"Invalid reference name: {name}")
    if ref in repo.refs:
        raise HubError(409, taken)
    repo.refs[ref] = target


def _delete_ref(repo: Repo, ref: str, name: str) -> Reply:
    if ref not in repo.refs:
        raise HubError(404, f"Invalid rev id: {name}", "RevisionNotFound")
    del repo.refs[ref]
    return Reply.json({"success": True})
