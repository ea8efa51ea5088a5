"""Pulling: a pinned commit of a remote becomes a version in the store, once everything of it has been checked.

What comes is data from a stranger. Only files of the format are asked for, into a stage that no reader sees; the
artifact is verified there as any other, then against the backbone and by its probe. Only then is it a version.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from onetrunk.adapters.errors import ArtifactError, RemoteError, RemoteUnreachable
from onetrunk.adapters.format import strict_json
from onetrunk.adapters.format.artifact import (
    CARD,
    FORMAT_FILES,
    MAX_WEIGHTS,
    MODEL,
    TASK,
    WEIGHTS,
    read_artifact,
    read_manifest,
)
from onetrunk.adapters.format.files import sha256, write_new
from onetrunk.adapters.format.manifest import FileRecord, Manifest
from onetrunk.adapters.remotes.folder import REFS
from onetrunk.adapters.remotes.locations import Location, is_commit, is_location
from onetrunk.adapters.remotes.opening import open_remote
from onetrunk.adapters.remotes.remote import MAIN, Advance, Commit, Remote
from onetrunk.adapters.store.references import validate_name
from onetrunk.adapters.store.staging import writing
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.adapters.store.version_index import Origin
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import BackboneMismatch
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.inference.logits import ignore
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.sharing.claims import Claim, StoredMeanwhile
from onetrunk.core.tasks import TaskSpec
from onetrunk.core.training.manifest_builder import Destination

ForBackbone = Callable[[Manifest], Backbone]
"""Loads the backbone that an adapter needs."""
ForBase = Callable[[str | None, str | None], Backbone]
"""Loads the backbone of this name and revision, which plain PEFT's files give, or not."""
PICKLE = "adapter_model.bin"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull has come to. new: whether the version was not in the store before; notes: for the user."""

    stored: StoredVersion
    new: bool
    notes: tuple[str, ...] = ()


class Puller:
    """Pulls adapters into `store`.

    backbone: loads the one that an adapter's checks need, no earlier than they do.
    allow_mismatch: store an adapter of another backbone all the same; its probe is not computed then.
    """

    def __init__(
        self,
        store: Store,
        host: PluginHost,
        backbone: ForBackbone,
        *,
        token: str | None = None,
        allow_mismatch: bool = False,
        advance: Advance = ignore,
    ) -> None:
        self._store, self._host, self._backbone = store, host, backbone
        self._token, self._allow, self._advance = token, allow_mismatch, advance

    def pull(self, location: Location, name: str | None = None, *, into: bool = False) -> Pulled:
        """Store what `location` means now as a version of `name` (by default that of the repo or folder).

        A commit that is in the store under that name already is not downloaded again. into: add the version to
        `name` even if it belongs to another origin or task.
        Raises NameTaken, RemoteError, ArtifactError, BackboneMismatch, AdapterRejected, UnknownTask; the store is
        as it was.
        """
        name = validate_name(location.name if name is None else name)
        remote = open_remote(location, self._token)
        if is_commit(location.revision):  # it may be there already, and then nothing is asked of the remote
            claim = self._claim(name, remote, str(location.revision), into)
            if known := claim.known(self._store.versions(name)):
                return Pulled(known, new=False)
        commit = remote.commit(location.revision)
        return self._add(remote, commit, self._claim(name, remote, commit.id, into))

    def pull_peft(
        self,
        location: Location,
        spec: TaskSpec,
        base: ForBase,
        labels: Sequence[str] | None = None,
        name: str | None = None,
        *,
        into: bool = False,
    ) -> Pulled:
        """Store an adapter that plain PEFT has made, for the task `spec`, as a version of `name`.

        base: loads the backbone by the name and revision that its files give. labels: in the order of its logits,
        where its files do not say them. A folder may be the adapter itself, too.
        Raises as `pull` and `import_peft` do; the store is as it was then.
        """
        from onetrunk.core.interop.import_peft import base_of, import_peft

        name = validate_name(location.name if name is None else name)
        plain = Path(location.place)
        if location.kind == "folder" and not (plain / REFS).exists() and plain.is_dir():
            claim = Claim(name, location, None, spec.name, into)
            claim.check(self._store.versions(name))
            stored = import_peft(plain, spec, base(*base_of(plain)), self._destination(claim), labels)
            return Pulled(stored, new=True)
        remote = open_remote(location, self._token)
        commit = remote.commit(location.revision)
        claim = replace(self._claim(name, remote, commit.id, into), task=spec.name)

        def store() -> StoredVersion:
            with tempfile.TemporaryDirectory() as aside:
                folder = Path(aside) / name
                folder.mkdir()
                self._fetch_peft(folder, remote, commit)
                return import_peft(folder, spec, base(*base_of(folder)), self._destination(claim), labels)

        return self._claimed(claim, store, [])

    def resolve(self, reference: str) -> StoredVersion:
        """Return the version that `reference` means: one of the store or, for a location, what its remote has now.

        A commit that was pulled before is taken from the store, whatever its name there. Any other becomes a
        version of the name that the store keeps for the location (`cache_name`), so that no other name gets a new
        version. Where the remote cannot be reached, it is the version that was pulled from there last.
        Raises UnknownAdapter, ReferenceSyntaxError, and what `pull` raises.
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
            _log.warning("%s; %s is used, which was pulled from there before", error, last.ref)
            return last

    def _last(self, remote: Remote) -> StoredVersion | None:
        """Return the version that was pulled last from the branch or tag of a location."""
        wanted = _origin(remote, "")
        pulled = self._store.pulled(wanted)
        found = [own for own in pulled if own.origin is not None and own.origin.follows == wanted.follows]
        return max(found, key=lambda own: own.path.stat().st_mtime, default=None)

    def _cached(self, remote: Remote, commit: str) -> StoredVersion | None:
        """Return the version that was pulled from a commit, the one without a name of its own before others."""
        origin = _origin(remote, commit)
        found = [own for own in self._store.pulled(origin) if own.origin and own.origin.commit == commit]
        return max(found, key=lambda own: own.is_cached, default=None)

    def _add_cached(self, remote: Remote, commit: Commit) -> StoredVersion:
        name = _origin(remote, commit.id).cache_name
        return self._add(remote, commit, self._claim(name, remote, commit.id)).stored

    def _claim(self, name: str, remote: Remote, commit: str, into: bool = False) -> Claim:
        return Claim(name, remote.location, _origin(remote, commit), into=into)

    def _destination(self, claim: Claim) -> Destination:
        return Destination(self._host, self._store, claim.name, claim.origin, claim.enter)

    def _claimed(self, claim: Claim, store: Callable[[], StoredVersion], notes: list[str]) -> Pulled:
        """Return what `store` stores, or the version of the same commit if the name has it already."""
        versions = self._store.versions(claim.name)
        if known := claim.known(versions):
            return Pulled(known, new=False)
        claim.check(versions)
        try:
            with _named(claim.location):
                return Pulled(store(), new=True, notes=tuple(notes))
        except StoredMeanwhile as meanwhile:
            return Pulled(meanwhile.stored, new=False)

    def _add(self, remote: Remote, commit: Commit, claim: Claim) -> Pulled:
        """Store a commit of an adapter of ours."""
        if TASK not in commit.files:
            raise RemoteError(
                str(remote.location),
                f"commit {commit.id[:12]} has no {TASK}: it is no adapter of OneTrunk; for one of plain PEFT give "
                "--task, and --labels if it does not say them",
            )
        notes: list[str] = []

        def store() -> StoredVersion:
            return self._destination(claim).add(
                lambda folder: self._fill(folder, remote, commit, claim, notes)
            )

        return self._claimed(claim, store, notes)

    def _fetch_peft(self, folder: Path, remote: Remote, commit: Commit) -> None:
        """Download the files of a plain PEFT adapter. Raises RemoteError for weights in a pickle alone."""
        from onetrunk.core.interop.import_peft import FILES

        if MODEL not in commit.files and PICKLE in commit.files:
            raise RemoteError(
                str(remote.location),
                f"it has {PICKLE} alone, a pickle, which can run code and is never read",
            )
        for file in (each for each in FILES if each in commit.files):
            limit = MAX_WEIGHTS if file in WEIGHTS else strict_json.MAX_BYTES
            write_new(folder / file, remote.fetch(commit, file, limit, self._advance))

    def _fill(self, folder: Path, remote: Remote, commit: Commit, claim: Claim, notes: list[str]) -> None:
        """Download the artifact into `folder`, and check it against the name's task and its backbone."""
        for file in [TASK, *(each for each in FORMAT_FILES if each != TASK)]:
            if file in commit.files:
                limit = MAX_WEIGHTS if file in WEIGHTS else strict_json.MAX_BYTES
                data = remote.fetch(commit, file, limit, self._advance)
                with writing(self._store.root):
                    write_new(folder / file, data)
            if file == TASK:
                manifest = read_manifest(folder)
                claim.task = manifest.task
                claim.check(self._store.versions(claim.name))  # before anything large comes
        if _adopt_card(folder, manifest):
            notes.append("its card was edited there after it had been published; the text is kept")
        artifact = read_artifact(folder)
        spec = self._host.task(artifact.manifest.task)
        backbone = self._backbone(artifact.manifest)
        try:
            from onetrunk.core.trunk.build import trunk_of

            load_adapter(str(remote.location), artifact, spec, backbone, trunk_of(backbone))
        except BackboneMismatch as error:
            if not self._allow:
                raise
            notes.append(f"{error}; stored all the same, unchecked")


@contextmanager
def _named(location: Location) -> Iterator[None]:
    """Let a faulty artifact be called by where it came from, not by the folder in which it was checked."""
    try:
        yield
    except ArtifactError as error:
        raise ArtifactError(str(location), error.message) from error


def _origin(remote: Remote, commit: str) -> Origin:
    location = remote.location
    return Origin(location.base, commit, location.revision or MAIN, remote.endpoint)


def _adopt_card(folder: Path, manifest: Manifest) -> bool:
    """Let task.json take the card as it came: people edit it in their browser, and nothing is computed from it."""
    path, record = folder / CARD, manifest.files.get(CARD)
    if record is None or not path.is_file():
        return False
    data = path.read_bytes()
    if sha256(data) == record.sha256:
        return False
    files = {**manifest.files, CARD: FileRecord(sha256=sha256(data), bytes=len(data))}
    (folder / TASK).unlink()
    write_new(folder / TASK, strict_json.dump(manifest.with_files(files).to_json()))
    return True
