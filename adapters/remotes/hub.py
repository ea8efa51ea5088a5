"""The Hugging Face Hub as a remote.

huggingface_hub does not check the hashes of downloads, does not download a file again after a broken connection,
and can make two commits of one push if a response is lost. This module therefore compares hashes, repeats requests
that are safe to repeat, and reads the branch if a commit gets no response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from onetrunk.adapters.errors import (
    RemoteConflict,
    RemoteDamaged,
    RemoteError,
    RemoteNotFound,
    RemoteUnreachable,
)
from onetrunk.adapters.format.files import FileFault, read_regular
from onetrunk.adapters.remotes.hub_client import MAX_ANSWER, endpoint, hub_api, hub_errors, offline
from onetrunk.adapters.remotes.locations import Location, is_commit
from onetrunk.adapters.remotes.remote import MAIN, Commit, OnBytes, Published, RemoteFile

PAUSES = (0.3, 1.0, 3.0)
"""Seconds to wait before the second, third and fourth attempt of a request that failed temporarily."""
_T = TypeVar("_T")


class HubRemote:
    """A repo on the Hub. token: None for `HF_TOKEN` or the token of `hf auth login`."""

    def __init__(self, location: Location, token: str | None = None) -> None:
        self.location = location
        self.endpoint: str | None = endpoint()
        self._token = token or None

    def commit(self, revision: str | None) -> Commit:
        """Return the commit that a branch, tag or commit id names now; in offline mode, from the client's cache."""
        api = hub_api(self._token)
        if offline():
            return self._cached(revision or MAIN)
        place, wanted, prefix = self.location.place, revision or MAIN, self._path("")
        return self._tried(
            lambda: _commit_of(api.model_info(place, revision=wanted, files_metadata=True), prefix)
        )

    def fetch(self, commit: Commit, name: str, limit: int, advance: OnBytes) -> bytes:
        """Return a file of `commit` through the client's cache. A damaged file is downloaded again."""
        expected = commit.files.get(name)
        if expected is None:
            raise RemoteNotFound(self.location, f"{name} is missing in commit {commit.id[:12]}")
        if expected.size > limit:
            raise RemoteError(self.location, f"{name} has {expected.size} bytes, at most {limit} are allowed")
        for force in (False,) if offline() else (False, True, True):
            data = self._download(commit.id, name, limit, force)
            if expected.matches(data):
                advance(len(data))
                return data
        why = f"every download of {name} differs from the hash that the Hub gives; try later"
        raise RemoteDamaged(self.location, why)

    def create(self, private: bool) -> bool:
        """Create the repo; return whether it is new. Raises RemoteError if it should be private and is public."""
        api, place = hub_api(self._token), self.location.place
        try:
            known = self._tried(lambda: api.model_info(place))
        except RemoteNotFound:
            self._tried(lambda: api.create_repo(place, private=private, exist_ok=True))
            return True
        if private and not known.private:
            why = "the repo exists and is public; make it private on the Hub, or leave --private out"
            raise RemoteError(self.location, why)
        return False

    def publish(
        self, files: Mapping[str, Path], *, branch: str, parent: str | None, message: str, pull_request: bool
    ) -> Published:
        """Make one commit on `branch`, and look for it there if the Hub's response is lost."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        api, place = hub_api(self._token), self.location.place
        if parent is None:
            self._tried(lambda: api.create_branch(place, branch=branch, exist_ok=True))
            base = self.commit(branch)
            if branch == MAIN and any(not name.startswith(".") for name in base.files):
                raise RemoteConflict(self.location, "another push was faster; push again")
            parent = base.id
        before = self.commit(parent).files
        outdated = [name for name in sorted(before.keys() - files.keys()) if not name.startswith(".")]
        operations: list[Any] = [CommitOperationAdd(name, path) for name, path in sorted(files.items())]
        operations += map(CommitOperationDelete, outdated)
        sent = False

        def send() -> Published:
            nonlocal sent
            # At the second attempt, the commit exists if only the response to the first was lost.
            if sent and (landed := self._landed(files, branch, parent)) is not None:
                return landed
            sent = True
            with hub_errors(self.location, self._token):
                done = api.create_commit(
                    place,
                    operations,
                    commit_message=message,
                    revision=branch,
                    parent_commit=parent,
                    create_pr=pull_request,
                )
            return Published(str(done.oid), str(done.commit_url), done.pr_url)

        # A pull request is sent once: the branch does not show whether the first one was created.
        return send() if pull_request else _retrying()(send)

    def tag(self, name: str, commit: str) -> None:
        """Create the tag `name` on `commit`. Raises RemoteConflict if the tag is on another commit."""
        api, place = hub_api(self._token), self.location.place
        refs = self._tried(lambda: api.list_repo_refs(place))
        at = {ref.name: ref.target_commit for ref in refs.tags}.get(name)
        if at not in (None, commit):
            raise RemoteConflict(self.location, f"the tag {name!r} is on another commit; choose another")
        if at is None:
            self._tried(lambda: api.create_tag(place, tag=name, revision=commit, exist_ok=True))

    def _landed(self, files: Mapping[str, Path], branch: str, parent: str) -> Published | None:
        """Return the commit of a push that got no response; None if the branch is still at `parent`.

        Raises RemoteConflict if the branch is at a commit with other files.
        """
        head = self.commit(branch)
        if head.id == parent:
            return None
        ours = {name: path.read_bytes() for name, path in files.items()}
        names = {name for name in head.files if not name.startswith(".")}
        if names != ours.keys() or any(
            self.fetch(head, name, len(data) + 1, lambda _: None) != data for name, data in ours.items()
        ):
            raise RemoteConflict(self.location, f"another push was faster: {branch} has changed; push again")
        return Published(head.id, f"{self.endpoint}/{self.location.place}/commit/{head.id}")

    def _path(self, name: str) -> str:
        """Return the path of a file in the repo. name: its path in the sub-folder of the location."""
        return f"{self.location.folder}/{name}" if self.location.folder else name

    def _download(self, commit: str, name: str, limit: int, force: bool) -> bytes:
        from huggingface_hub import hf_hub_download

        path = self._tried(
            lambda: hf_hub_download(
                self.location.place,
                self._path(name),
                revision=commit,
                token=self._token,
                force_download=force,
                local_files_only=offline(),
            ),
            max(limit, MAX_ANSWER),
        )
        try:
            return read_regular(Path(path).resolve(), limit)  # the cache holds links to its files
        except FileFault as error:
            raise RemoteError(self.location, f"{name} in the client's cache {error}") from error

    def _cached(self, revision: str) -> Commit:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(
            self.location.place, self._path("adapter_config.json"), revision=revision
        )
        if not isinstance(found, str):
            raise RemoteUnreachable(
                self.location,
                f"offline mode is on (HF_HUB_OFFLINE) and {revision!r} is not in the client's cache; name a "
                "commit that was pulled before, or go online",
            )
        folder = Path(found).parent
        paths = [path for path in sorted(folder.iterdir()) if path.is_file()]
        files = {path.name: RemoteFile(path.name, path.stat().st_size) for path in paths}
        depth = self.location.folder.count("/") + 1 if self.location.folder else 0
        return Commit([folder, *folder.parents][depth].name, files)

    def _tried(self, ask: Callable[[], _T], limit: int = MAX_ANSWER) -> _T:
        """Return the result of `ask`, which is called again after temporary failures.

        limit: the most bytes of an answer.
        """

        def once() -> _T:
            with hub_errors(self.location, self._token, limit):
                return ask()

        return _retrying()(once)


def _commit_of(info: Any, prefix: str) -> Commit:
    """Return the commit that the Hub describes, with its files below `prefix`.

    Raises TypeError or AttributeError if the description has another shape.
    """
    files = {}
    for entry in info.siblings or ():
        lfs = entry.lfs.sha256 if entry.lfs is not None else None
        blob = None if lfs else entry.blob_id  # an LFS file has the id of its pointer, not of its content
        facts = (entry.rfilename, entry.size or 0, lfs or "", blob or "")
        if not all(map(isinstance, facts, (str, int, str, str))):
            raise TypeError(f"a file is described by {facts!r:.100}")
        if (name := entry.rfilename).startswith(prefix):
            files[name.removeprefix(prefix)] = RemoteFile(name.removeprefix(prefix), facts[1], lfs, blob)
    if not isinstance(info.sha, str) or not is_commit(info.sha):
        raise TypeError(f"the id of the commit is {info.sha!r:.60}")
    return Commit(info.sha, files)


def _retrying() -> Retrying:
    """Return the policy for temporary failures: wait and try again, in the end raise the last error."""
    return Retrying(
        retry=retry_if_exception(_may_pass),
        wait=_seconds_to_wait,
        stop=stop_after_attempt(len(PAUSES) + 1),
        reraise=True,
    )


def _may_pass(error: BaseException) -> bool:
    if not isinstance(error, RemoteUnreachable) or error.final or offline():
        return False
    from onetrunk.adapters.remotes.hub_limits import LONGEST_PAUSE

    return error.wait <= LONGEST_PAUSE


def _seconds_to_wait(state: RetryCallState) -> float:
    """Return the next pause, or the seconds of the Hub's `Retry-After` if they are more."""
    # tenacity calls this after the last attempt, too
    pause = PAUSES[min(state.attempt_number, len(PAUSES)) - 1]
    error = state.outcome.exception() if state.outcome is not None else None
    return max(pause, error.wait) if isinstance(error, RemoteUnreachable) else pause
