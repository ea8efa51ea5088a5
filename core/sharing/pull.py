"""Pulling: a pinned commit of a remote becomes a version in the store, once everything of it has been checked.

What comes is data from a stranger. Only files of the format are asked for, into a stage that no reader sees; the
artifact is verified there as any other, then against the backbone and by its probe. Only then is it a version.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from onetrunk.adapters.remotes.locations import Location, is_commit
from onetrunk.adapters.remotes.remote import MAIN, Advance, Commit, Remote, open_remote
from onetrunk.adapters.store.references import is_name, validate_name
from onetrunk.adapters.store.staging import writing
from onetrunk.adapters.store.store import Store, StoredVersion
from onetrunk.adapters.store.version_index import Origin
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import BackboneMismatch
from onetrunk.core.inference.adapter_io import load_adapter
from onetrunk.core.inference.logits import ignore
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import TaskSpec

ForBackbone = Callable[[Manifest], Backbone]
"""Loads the backbone that an adapter needs."""
ForBase = Callable[[str | None, str | None], Backbone]
"""Loads the backbone of this name and revision, which plain PEFT's files give, or not."""
PICKLE = "adapter_model.bin"


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

    def pull(self, location: Location, name: str | None = None) -> Pulled:
        """Store what `location` means now as a version of `name` (by default that of the repo or folder).

        A commit that is in the store under that name already is not downloaded again.
        Raises RemoteError, ArtifactError, BackboneMismatch, AdapterRejected, UnknownTask; the store is as it was.
        """
        name = name_for(location) if name is None else validate_name(name)
        place = str(Location(location.kind, location.place))
        if is_commit(location.revision) and (known := self._known(name, place, str(location.revision))):
            return Pulled(known, new=False)
        remote = open_remote(location, self._token)
        commit = remote.commit(location.revision)
        if known := self._known(name, place, commit.id):
            return Pulled(known, new=False)
        if TASK not in commit.files:
            raise RemoteError(
                str(location),
                f"commit {commit.id[:12]} has no {TASK}: it is no adapter of OneTrunk; for one of plain PEFT give "
                "--task, and --labels if it does not say them",
            )
        notes: list[str] = []
        with _named(location):
            stored = self._store.add(
                name,
                lambda folder: self._fill(folder, remote, commit, notes),
                Origin(place, commit.id, location.revision or MAIN),
            )
        return Pulled(stored, new=True, notes=tuple(notes))

    def pull_peft(
        self,
        location: Location,
        spec: TaskSpec,
        base: ForBase,
        labels: Sequence[str] | None = None,
        name: str | None = None,
    ) -> Pulled:
        """Store an adapter that plain PEFT has made, for the task `spec`, as a version of `name`.

        base: loads the backbone by the name and revision that its files give. labels: in the order of its logits,
        where its files do not say them. A folder may be the adapter itself, too.
        Raises as `pull` and `import_peft` do; the store is as it was then.
        """
        from onetrunk.core.interop.import_peft import FILES, base_of, import_peft

        name = name_for(location) if name is None else validate_name(name)
        plain = Path(location.place)
        if location.kind == "folder" and not (plain / REFS).exists() and plain.is_dir():
            backbone = base(*base_of(plain))
            stored = import_peft(
                plain, spec, backbone, host=self._host, store=self._store, name=name, labels=labels
            )
            return Pulled(stored, new=True)
        place = str(Location(location.kind, location.place))
        remote = open_remote(location, self._token)
        commit = remote.commit(location.revision)
        if known := self._known(name, place, commit.id):
            return Pulled(known, new=False)
        with tempfile.TemporaryDirectory() as aside, _named(location):
            folder = Path(aside) / name
            folder.mkdir()
            for file in (each for each in FILES if each in commit.files):
                limit = MAX_WEIGHTS if file in WEIGHTS else strict_json.MAX_BYTES
                write_new(folder / file, remote.fetch(commit, file, limit, self._advance))
            if MODEL not in commit.files and PICKLE in commit.files:
                raise RemoteError(
                    str(location), f"it has {PICKLE} alone, a pickle, which can run code and is never read"
                )
            stored = import_peft(
                folder,
                spec,
                base(*base_of(folder)),
                host=self._host,
                store=self._store,
                name=name,
                labels=labels,
                origin=Origin(place, commit.id, location.revision or MAIN),
            )
        return Pulled(stored, new=True)

    def _known(self, name: str, place: str, commit: str) -> StoredVersion | None:
        found = [own for own in self._store.pulled(place, commit) if own.name == name]
        return found[-1] if found else None

    def _fill(self, folder: Path, remote: Remote, commit: Commit, notes: list[str]) -> None:
        """Download the artifact into `folder` and check it against its backbone."""
        for file in [TASK, *(each for each in FORMAT_FILES if each != TASK)]:
            if file in commit.files:
                limit = MAX_WEIGHTS if file in WEIGHTS else strict_json.MAX_BYTES
                data = remote.fetch(commit, file, limit, self._advance)
                with writing(self._store.root):
                    write_new(folder / file, data)
            if file == TASK:
                manifest = read_manifest(folder)  # before anything large comes
        if _adopt_card(folder, manifest):
            notes.append("its card was edited there after it had been published; the text is kept")
        artifact = read_artifact(folder)
        spec = self._host.task(artifact.manifest.task)
        backbone = self._backbone(artifact.manifest)
        try:
            from onetrunk.core.trunk.packed import Trunk

            load_adapter(str(remote.location), artifact, spec, backbone, Trunk.of(backbone))
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


def name_for(location: Location) -> str:
    """Return what an adapter from there is called. Raises ReferenceSyntaxError where that cannot be a name."""
    name = location.name.replace(" ", "-")
    return name if is_name(name) else validate_name(name)


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


def located(store: Store, puller: Puller, reference: str) -> StoredVersion:
    """Return the version that `reference` means, of the store or, for a location, of its remote.

    Where the remote cannot be reached, it is the version that was pulled from there last.
    """
    from onetrunk.adapters.remotes.locations import is_location

    if not is_location(reference):
        return store.resolve(reference)
    location = Location.parse(reference)
    try:
        return puller.pull(location).stored
    except RemoteUnreachable:
        place, follows = str(Location(location.kind, location.place)), location.revision or MAIN
        found = [
            own
            for own in store.versions()
            if own.origin is not None and (own.origin.place, own.origin.follows) == (place, follows)
        ]
        if not found:
            raise
        return found[-1]
