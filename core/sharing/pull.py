"""Pull: downloads a commit of a remote, verifies it and stores it as a version.

Downloads are untrusted. Only files that the folder of an adapter can have are downloaded, into a temporary folder.
There, the files are verified, and the adapter is loaded onto its backbone and checked with its probe: texts with
the logits that the adapter must give. Only then is the adapter stored.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onetrunk.adapters.errors import ArtifactError, RemoteError, RemoteUnreachable, first_few
from onetrunk.adapters.format.artifact import (
    FORMAT_FILES,
    TASK,
    read_artifact,
    read_manifest,
)
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.adapters.remotes import open_remote
from onetrunk.adapters.remotes.folder import REFS
from onetrunk.adapters.remotes.locations import Location, is_commit, is_location
from onetrunk.adapters.remotes.remote import MAIN, Commit, OnBytes, Remote
from onetrunk.adapters.store.references import validate_name
from onetrunk.adapters.store.staging import stage
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.adapters.store.version_index import Origin
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import BackboneMismatch
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.inference.logits import ignore
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.sharing.claims import AlreadyStored, NameClaim
from onetrunk.core.sharing.downloads import Download, adopt_card
from onetrunk.core.tasks import TaskSpec
from onetrunk.core.training.manifest_builder import Destination

LoadBackbone = Callable[[Manifest], Backbone]
"""Loads the backbone that the manifest of an adapter names."""
LoadBase = Callable[[str | None, str | None], Backbone]
"""Loads a backbone by its name and revision. A value that the files of a plain PEFT adapter do not give is None."""
_PLAIN = "for a plain PEFT adapter, give --task, and --labels if its files do not list the labels"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PullResult:
    """The result of a pull.

    new: whether the pull has added the version; False if the store had the commit already.
    notes: warnings for the user.
    """

    stored: StoredVersion
    new: bool
    notes: tuple[str, ...] = ()


class Puller:
    """Pulls adapters into `store`.

    host: the plugins, which provide the tasks.
    backbone: loads the backbone for the checks of an adapter.
    token: Hub token; None for the token of the environment.
    allow_mismatch: store an adapter even if it was trained on another backbone; its probe is then not checked.
    advance: called with the number of bytes of each downloaded part.
    """

    def __init__(
        self,
        store: Store,
        host: PluginHost,
        backbone: LoadBackbone,
        *,
        token: str | None = None,
        allow_mismatch: bool = False,
        advance: OnBytes = ignore,
    ) -> None:
        self._store, self._host, self._backbone = store, host, backbone
        self._token, self._allow, self._advance = token, allow_mismatch, advance

    def pull(self, location: Location, name: str | None = None, *, into: bool = False) -> PullResult:
        """Store the adapter at `location` as the next version of `name`.

        A commit that is already stored under this name is not downloaded again. In offline mode, the version that
        was last pulled from the location is used, with a note.

        name: None for the name of the repo or folder.
        into: add the version even if `name` belongs to another origin or task.

        Raises NameTaken, RemoteError, ArtifactError, BackboneMismatch, AdapterRejected or UnknownTask; then the
        store has not changed.
        """
        name = validate_name(location.name if name is None else name)
        remote = open_remote(location, self._token)
        claim = self._claim(name, remote, str(location.revision), into)
        if is_commit(location.revision) and (known := claim.known(self._store.versions(name))):
            return _known(known)  # without a request to the remote
        try:
            commit = remote.commit(location.revision)
        except RemoteUnreachable as error:
            return self._offline(remote, claim, error)
        return self._add(remote, commit, self._claim(name, remote, commit.id, into))

    def pull_peft(
        self,
        location: Location,
        spec: TaskSpec,
        base: LoadBase,
        labels: Sequence[str] | None = None,
        name: str | None = None,
        *,
        into: bool = False,
    ) -> PullResult:
        """Store a plain PEFT adapter as the next version of `name`, for the task `spec`.

        location: a remote, or a folder that has the files of the adapter.
        base: loads the backbone.
        labels: the labels in the order of the logits; None if the files list them.
        name: None for the name of the repo or folder.
        into: add the version even if `name` belongs to another origin or task.

        Raises the errors of `pull` and `import_peft`; then the store has not changed.
        """
        from onetrunk.core.interop.import_peft import base_of, import_peft

        name = validate_name(location.name if name is None else name)
        plain = Path(location.place)
        if location.kind == "folder" and not (plain / REFS).exists() and plain.is_dir():
            claim = NameClaim(name, location, None, spec.name, into)
            claim.check(self._store.versions(name))
            read: list[str] = []
            stored = import_peft(plain, spec, base(*base_of(plain)), self._destination(claim), labels, read)
            return PullResult(stored, new=True, notes=tuple(read))
        remote = open_remote(location, self._token)
        claim = replace(self._claim(name, remote, str(location.revision), into), task=spec.name)
        try:
            commit = remote.commit(location.revision)
        except RemoteUnreachable as error:
            return self._offline(remote, claim, error)
        claim = replace(self._claim(name, remote, commit.id, into), task=spec.name)
        notes: list[str] = []

        def store() -> StoredVersion:
            with stage(self._store.root, self._store.lock_seconds) as work:
                folder = work / name
                folder.mkdir()
                Download(self._store.root, remote, commit, self._advance).fetch_peft(folder)
                model = base(*base_of(folder))
                return import_peft(folder, spec, model, self._destination(claim), labels, notes)

        return self._claimed(claim, store, notes)

    def resolve(self, reference: str) -> StoredVersion:
        """Return the version that a reference to the store or a location means.

        A location means its newest commit. If this commit was pulled before, under any name, that version is
        returned. Otherwise the commit is pulled and stored under a name that only this location has
        (`Origin.cache_name`), so that no other name gets a new version. If the remote cannot be reached, the
        version that was last pulled from the location is returned, with a warning in the log.

        Raises UnknownAdapter, ReferenceSyntaxError, and the errors of `pull`.
        """
        if not is_location(reference):
            return self._store.resolve(reference)
        location = Location.parse(reference)
        remote = open_remote(location, self._token)
        if is_commit(location.revision) and (known := self._cached(remote, str(location.revision))):
            return known
        try:
            commit = remote.commit(location.revision)
            return self._cached(remote, commit.id) or self._add_cached(remote, commit)
        except RemoteUnreachable as error:
            if (last := self._last(remote)) is None:
                raise
            _log.warning("%s; using %s, which was pulled from there before", error, last.ref)
            return last

    def _last(self, remote: Remote) -> StoredVersion | None:
        """Return the version that was last pulled from the revision of the location; None if there is none."""
        wanted = _origin(remote, "")
        pulled = [(own, own.origin) for own in self._store.pulled_from(wanted) if own.origin is not None]
        found = [own for own, origin in pulled if wanted.follows in (origin.follows, origin.commit)]
        return max(found, key=lambda own: own.path.stat().st_mtime, default=None)

    def _cached(self, remote: Remote, commit: str) -> StoredVersion | None:
        """Return a version that was pulled from `commit`, if possible one under the location's `cache_name`."""
        origin = _origin(remote, commit)
        found = [own for own in self._store.pulled_from(origin) if own.origin and own.origin.commit == commit]
        return max(found, key=lambda own: own.is_cached, default=None)

    def _add_cached(self, remote: Remote, commit: Commit) -> StoredVersion:
        """Store a commit under the location's `cache_name`, which may have versions for several tasks."""
        name = _origin(remote, commit.id).cache_name
        versions = self._store.versions(name)
        only_cached = not versions or versions[-1].is_cached
        return self._add(remote, commit, self._claim(name, remote, commit.id, into=only_cached)).stored

    def _claim(self, name: str, remote: Remote, commit: str, into: bool = False) -> NameClaim:
        return NameClaim(name, remote.location, _origin(remote, commit), into=into)

    def _destination(self, claim: NameClaim) -> Destination:
        return Destination(self._host, self._store, claim.name, claim.origin, claim.enter)

    def _offline(self, remote: Remote, claim: NameClaim, error: RemoteUnreachable) -> PullResult:
        """Return the version that was last pulled from the location, as a version of the name that is claimed.

        Raises `error` if offline mode is off, or if the store has no such version.
        """
        from onetrunk.adapters.remotes.hub_client import offline

        last = self._last(remote) if offline() else None
        if last is None or last.origin is None:
            raise error
        claim.origin = replace(last.origin, follows=str(_origin(remote, "").follows))
        claim.task = read_manifest(last.path).task if claim.task is None else claim.task
        note = (
            f"offline mode is on (HF_HUB_OFFLINE): commit {last.origin.commit[:12]}, pulled as {last.ref}, is "
            f"used; it was not checked if {claim.origin.follows} of {remote.location.base} has a newer one"
        )

        def copy(folder: Path) -> None:
            shutil.copytree(last.read().path, folder, dirs_exist_ok=True)

        return self._claimed(claim, lambda: self._destination(claim).add(copy), [note])

    def _claimed(self, claim: NameClaim, store: Callable[[], StoredVersion], notes: list[str]) -> PullResult:
        """Return the version of the same commit if the name has one; otherwise call `store` to add the version."""
        versions = self._store.versions(claim.name)
        if known := claim.known(versions):
            return _known(known, notes)
        claim.check(versions)
        try:
            return PullResult(store(), new=True, notes=tuple(notes))
        except AlreadyStored as meanwhile:
            return _known(meanwhile.stored)
        except ArtifactError as error:  # its message has the path of a temporary folder
            raise ArtifactError(str(claim.location), error.message) from error

    def _add(self, remote: Remote, commit: Commit, claim: NameClaim) -> PullResult:
        """Store a commit that has a OneTrunk adapter. Raises RemoteError if it has none."""
        if TASK not in commit.files:
            below = [
                name.removesuffix(f"/{TASK}") for name in sorted(commit.files) if name.endswith(f"/{TASK}")
            ]
            places = first_few([f"{remote.location.base}/{folder}" for folder in below])
            hint = f"it has adapters in folders; pull {places}" if below else _PLAIN
            what = f"commit {commit.id[:12]} has no {TASK}, so it is not a OneTrunk adapter"
            raise RemoteError(str(remote.location), f"{what}; {hint}")
        notes: list[str] = []

        def write(folder: Path) -> None:
            self._fill(folder, remote, commit, claim, notes)

        return self._claimed(claim, lambda: self._destination(claim).add(write), notes)

    def _fill(self, folder: Path, remote: Remote, commit: Commit, claim: NameClaim, notes: list[str]) -> None:
        """Download an adapter into `folder`, and check its name in the store, its files, weights and probe."""
        download = Download(self._store.root, remote, commit, self._advance)
        download.fetch(folder, [TASK])
        manifest = read_manifest(folder)
        claim.task = manifest.task
        claim.check(self._store.versions(claim.name))  # before large files are downloaded
        download.fetch(folder, [name for name in FORMAT_FILES if name != TASK])
        if adopt_card(folder, manifest):
            notes.append("the model card was edited after the adapter was published; the new card is stored")
        artifact = read_artifact(folder)
        spec = self._host.task(artifact.manifest.task)
        backbone = self._backbone(artifact.manifest)
        try:
            from onetrunk.core.trunk.build import trunk_of

            load_adapter(str(remote.location), artifact, spec, backbone, trunk_of(backbone))
        except BackboneMismatch as error:
            if not self._allow:
                raise
            notes.append(f"{error}; stored without checking its probe")


def _known(stored: StoredVersion, notes: Sequence[str] = ()) -> PullResult:
    """Return the result of a pull whose commit was in the store, with a note if the name means another version."""
    other = f"{stored.name} means another version; `adapters promote {stored.ref}` makes it mean {stored.ref}"
    return PullResult(stored, new=False, notes=(*notes, *([] if stored.is_current else [other])))


def _origin(remote: Remote, commit: str) -> Origin:
    location = remote.location
    return Origin(location.base, commit, location.revision or MAIN, remote.endpoint)
