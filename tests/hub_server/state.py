"""What the Hub knows: users, repos, links to storage; and who may do what."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args
from urllib.parse import quote

from tests.hub_server.repos import Commit, Repo
from tests.hub_server.wire import HubError

Role = Literal["write", "read", "none"]


@dataclass(frozen=True)
class User:
    """A user with one token. role: "none" is a token without any right, as a fine-grained one may be."""

    name: str
    role: Role
    orgs: tuple[str, ...] = ()

    def owns(self, namespace: str) -> bool:
        return namespace in (self.name, *self.orgs)


@dataclass(frozen=True)
class Link:
    """What a signed URL of the storage allows: to GET or PUT one object of a repo."""

    method: str
    repo: Repo
    oid: str
    size: int


class State:
    """The Hub but for HTTP. `lock` is held while a request is answered."""

    def __init__(self, page: int) -> None:
        self.page = page
        self.repos: dict[str, Repo] = {}
        self.links: dict[str, Link] = {}
        self.lock = threading.RLock()
        self.url = self.storage_url = ""
        self._users: dict[str, User] = {}
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def add_user(self, name: str, role: Role = "write", orgs: Iterable[str] = ()) -> str:
        """The token of a new user, or another one of a known user."""
        if role not in get_args(Role):
            raise ValueError(f"no role {role!r}; known: {', '.join(get_args(Role))}")
        token = f"hf_{name}_{secrets.token_hex(8)}"
        self._users[token] = User(name, role, tuple(orgs))
        return token

    def create_repo(self, id: str, private: bool = False) -> Repo:
        """A new repo, without a request."""
        with self.lock:
            if id in self.repos or id.count("/") != 1:
                raise ValueError(f"{id!r} exists, or is not of the form namespace/name")
            self.repos[id] = Repo(id, private, self.clock)
            return self.repos[id]

    def repo(self, id: str) -> Repo:
        """Raises KeyError."""
        return self.repos[id]

    def clock(self) -> str:
        """A date that is later than the one before, as the Hub writes it."""
        self._now = max(datetime.now(UTC), self._now + timedelta(milliseconds=1))
        return f"{self._now:%Y-%m-%dT%H:%M:%S}.{self._now.microsecond // 1000:03d}Z"

    def user_of(self, token: str | None) -> User | None:
        """Raises HubError for a token that nobody has: it is refused everywhere, whatever it asks for."""
        if token is None:
            return None
        if token not in self._users:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self._users[token]

    def may_read(self, user: User | None, repo: Repo) -> bool:
        return not repo.private or (user is not None and user.role != "none" and user.owns(repo.namespace))

    def readable(self, user: User | None, id: str) -> Repo:
        """The repo; one that this user may not see is as one that does not exist. Raises HubError."""
        repo = self.repos.get(id)
        if repo is None or not self.may_read(user, repo):
            raise no_repo(user)
        return repo

    def writable(self, user: User | None, id: str, *, pull: bool = False) -> Repo:
        """The repo, to write to; with `pull`, to open a PR, which any user may who sees it. Raises HubError."""
        repo = self.readable(user, id)
        if user is None:
            raise no_repo(user)
        if user.role != "write" or not (pull or user.owns(repo.namespace)):
            raise HubError(
                403, f"you don't have the rights to write to {id}, or your token is for reading only"
            )
        return repo

    def link(self, method: str, repo: Repo, oid: str, size: int, name: str) -> str:
        """A URL of the storage that needs no token."""
        key = secrets.token_hex(8)
        self.links[key] = Link(method, repo, oid, size)
        return f"{self.storage_url}/storage/{repo.id}/{quote(name)}?key={key}"


def no_repo(user: User | None) -> HubError:
    """What the Hub says of a repo that is not there, or that this user may not know of."""
    if user is None:
        return HubError(401, "Invalid username or password.", "RepoNotFound")
    return HubError(404, "Repository not found", "RepoNotFound")


def commit_at(repo: Repo, revision: str) -> Commit:
    """Raises HubError."""
    try:
        return repo.at(revision)
    except KeyError:
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound") from None


def no_entry(commit: Commit, message: str = "Entry not found") -> HubError:
    return HubError(404, message, "EntryNotFound", X_Repo_Commit=commit.oid)


def text(value: dict[str, Any], key: str) -> str:
    """A string out of a JSON body. Raises HubError."""
    if not isinstance(value.get(key), str) or not value[key]:
        raise HubError(400, f'"{key}" must be a string')
    return str(value[key])
