"""The store of this machine: artifacts by name and version, with aliases. Adding an artifact imports torch.

    <root>/ner/adapter.json    the index: versions, aliases, the current version, the last number used
    <root>/ner/3/              an artifact, which never changes
    <root>/.staging/, .lock    changes in preparation; the lock that a writer holds

Readers need no lock, because the index is replaced atomically and lists only folders that exist. Other files in the
root are ignored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from errno import EACCES, ENOTDIR
from pathlib import Path

import platformdirs

from onetrunk.adapters.errors import NotPromoted, ReferenceSyntaxError, StoreError, UnknownAdapter
from onetrunk.adapters.format.artifact import read_artifact
from onetrunk.adapters.format.files import move_folder, sync_folder
from onetrunk.adapters.store import version_index
from onetrunk.adapters.store.references import (
    CURRENT,
    LATEST,
    Reference,
    is_name,
    validate_alias,
    validate_name,
)
from onetrunk.adapters.store.staging import locked, stage, writing
from onetrunk.adapters.store.stored_version import StoredVersion as StoredVersion
from onetrunk.adapters.store.version_index import Origin, VersionIndex, read_index, write_index

_SHOWN = 20


def always(_: StoredVersion | None) -> bool:
    """Return True: the default rule by which a new version becomes the current one."""
    return True


class Store:
    """The adapters in the folder `root`. Safe to use from many threads and processes at once.

    root: None for `$ONETRUNK_HOME` or, if that is not set, the user's data folder of the platform. The first change
        creates it.
    lock_seconds: how long a change waits for the lock.

    Every method raises StoreError if an index is damaged or the root is not a folder; changes also raise StoreBusy.
    """

    def __init__(self, root: Path | None = None, *, lock_seconds: float = 30.0) -> None:
        default = os.environ.get("ONETRUNK_HOME") or platformdirs.user_data_path("onetrunk", appauthor=False)
        self.root = Path(root or default).expanduser().absolute()
        self.lock_seconds = lock_seconds

    def names(self) -> list[str]:
        """Return the names of the folders that may hold an adapter, sorted, without reading the folders."""
        try:
            return sorted(path.name for path in self.root.iterdir() if is_name(path.name) and path.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(
                f"cannot read the store {self.root} ({error.strerror}); name another folder in ONETRUNK_HOME"
            ) from error

    def versions(self, name: str | None = None) -> list[StoredVersion]:
        """Return all versions, or those of `name`, sorted by name and number; [] for an unknown name."""
        names = self.names() if name is None else [validate_name(name)]
        return [stored for each in names for stored in self._listed(each)]

    def pulled_from(self, origin: Origin) -> list[StoredVersion]:
        """Return the versions pulled from the repo or folder of `origin`, at any commit, by name and number."""
        return [own for own in self.versions() if own.origin is not None and own.origin.is_at(origin)]

    def is_cached(self, name: str) -> bool:
        """Tell whether the newest version of `name` was only used by its location, without `adapters pull`.

        False if the name has no versions, or if its index is damaged.
        """
        versions = self._readable(name)
        return bool(versions) and versions[-1].is_cached

    def resolve(self, ref: str | Reference) -> StoredVersion:
        """Return the version that `ref` means now; the current one if it is only a name.

        Raises UnknownAdapter with similar references, NotPromoted for a name without a current version, and
        ReferenceSyntaxError.
        """
        ref = _reference(ref)
        return self._pick(ref, self._index(ref.name))

    def current(self, name: str) -> StoredVersion | None:
        """Return the version that `name` alone means; None if there is none."""
        index = self._index(validate_name(name))
        return None if index.current is None else self._stored(name, index.current, index)

    def check_writable(self, name: str) -> None:
        """Raise StoreError if a version of `name` could not be added now. Call it before long work."""
        home = self.root / validate_name(name)
        with writing(self.root):
            folder = next(each for each in (home, *home.parents) if each.exists())
            if not folder.is_dir():
                raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR))
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(EACCES, os.strerror(EACCES))
        self._index(name)

    def add(
        self,
        name: str,
        write: Callable[[Path], object],
        origin: Origin | None = None,
        check: Callable[[Sequence[StoredVersion]], object] | None = None,
        promote: Callable[[StoredVersion | None], bool] = always,
    ) -> StoredVersion:
        """Store an artifact as the next version of `name`. Version numbers are never reused.

        write: called with an empty folder; writes the artifact into it.
        origin: where the artifact was pulled from.
        check: called with the versions of `name` before the artifact is added, while the store is locked; it raises
            an error to refuse the addition.
        promote: called with the current version, or None, while the store is locked; tells whether the new version
            becomes the current one.

        Raises ArtifactError if the artifact is not valid, and the errors of the three functions. Then nothing
        has changed.
        """
        validate_name(name)
        with stage(self.root, self.lock_seconds) as work:
            folder = work / "artifact"
            with writing(self.root):
                folder.mkdir()
            write(folder)
            identity = read_artifact(folder).id
            with locked(self.root, self.lock_seconds):
                if check is not None:
                    check(self._listed(name))
                promoted = promote(self.current(name))
                return self._add_version(name, folder, work, (identity, origin, promoted))

    def promote(self, ref: str | Reference) -> tuple[StoredVersion, StoredVersion | None]:
        """Make a version the current one of its name: what the name alone means. Raises UnknownAdapter.

        Returns the version, and the one that was current before, None if there was none.
        """
        ref = _reference(ref)
        self.resolve(ref)  # before the lock, which would create the root
        with locked(self.root, self.lock_seconds):
            index, before = self._index(ref.name), self.current(ref.name)
            number = self._pick(ref, index).version
            index = index.promote(number)
            write_index(self.root / ref.name, index)
        return self._stored(ref.name, number, index), before

    def alias(self, name: str, alias: str, version: int) -> StoredVersion:
        """Point `alias` at a version, and return the version. Raises UnknownAdapter, ReferenceSyntaxError."""
        if alias == CURRENT:
            why = f"the name alone means the current version; `adapters promote {name}@{version}` sets it"
            raise ReferenceSyntaxError(alias, why)
        ref = Reference(validate_name(name), version)
        validate_alias(alias)
        return self._set_alias(ref, alias, version)

    def unalias(self, name: str, alias: str) -> StoredVersion:
        """Delete `alias` and return the version that had it. Raises UnknownAdapter, ReferenceSyntaxError."""
        ref = Reference(validate_name(name), alias=validate_alias(alias))
        return self._set_alias(ref, alias, None)

    def remove(
        self, ref: str | Reference, *, whole: bool = False, force: bool = False
    ) -> list[StoredVersion]:
        """Remove one version, or all versions of a name, at once. Return what was removed.

        ref: reference to a version; with `whole`, a name.
        whole: remove all versions of the name.
        force: remove versions that have aliases, too.

        Raises UnknownAdapter. Raises StoreError if a version has an alias and `force` is not set, and if `ref` is a
        name without `whole`, or a version with `whole`.
        """
        ref = _reference(ref)
        self._versions_to_remove(ref, whole, force)
        with stage(self.root, self.lock_seconds) as work, locked(self.root, self.lock_seconds):
            gone = self._versions_to_remove(ref, whole, force)
            index = self._index(ref.name).remove([each.version for each in gone])
            write_index(self.root / ref.name, index)  # from here on they do not exist
            _move_leftovers(self.root / ref.name, index, work)
        return gone

    def _add_version(
        self, name: str, folder: Path, work: Path, facts: tuple[str, Origin | None, bool]
    ) -> StoredVersion:
        """Make `folder` the next version. The caller holds the lock.

        facts: id of the artifact, origin, and whether the version becomes the current one.
        """
        identity, origin, promoted = facts
        home = self.root / name
        home.mkdir(exist_ok=True)
        sync_folder(self.root)
        index = self._index(name)
        _move_leftovers(home, index, work)
        number = max(index.last, *version_index.version_folders(home), 0) + 1
        write_index(home, index.reserve(number))
        move_folder(folder, home / str(number))
        index = index.reserve(number).add(number, identity, origin)
        index = index.promote(number) if promoted else index
        write_index(home, index)  # from here on it exists
        return self._stored(name, number, index)

    def _set_alias(self, ref: Reference, alias: str, version: int | None) -> StoredVersion:
        """Point `alias` at `version`, or delete it if that is None. Return the version that `ref` meant before."""
        self.resolve(ref)  # before the lock, which would create the root
        with locked(self.root, self.lock_seconds):
            index = self._index(ref.name)
            number = self._pick(ref, index).version
            index = index.with_alias(alias, version)
            write_index(self.root / ref.name, index)
        return self._stored(ref.name, number, index)

    def _versions_to_remove(self, ref: Reference, whole: bool, force: bool) -> list[StoredVersion]:
        listed = self._listed(ref.name)
        bare = ref == Reference(ref.name)
        if bare and listed and not whole:
            raise StoreError(
                f"{ref} has no version: give one, as in {listed[-1].ref}, or remove the whole adapter"
            )
        if whole and not bare:
            raise StoreError(f"{ref} is one version: give {ref.name} to remove the whole adapter")
        gone = listed if whole and listed else [self._pick(ref, self._index(ref.name))]
        held = [f"{each.ref} ({', '.join(each.aliases)})" for each in gone if each.aliases]
        if held and not force:
            raise StoreError(f"{', '.join(held)} has an alias: delete the alias first, or force the removal")
        return gone

    def _pick(self, ref: Reference, index: VersionIndex) -> StoredVersion:
        if ref.version is not None:
            number = ref.version if ref.version in index.versions else None
        elif ref.alias == LATEST:
            number = index.versions[-1] if index.versions else None
        else:
            number = index.current if ref.alias is None else index.aliases.get(ref.alias)
        if number is None:
            bare = ref == Reference(ref.name)
            kind = NotPromoted if bare and index.versions else UnknownAdapter
            raise kind(str(ref), self._suggestions(ref, index), self.root)
        return self._stored(ref.name, number, index)

    def _suggestions(self, ref: Reference, index: VersionIndex) -> list[str]:
        if index.versions:
            tails = [*index.versions[-_SHOWN:], *sorted(index.aliases)[:_SHOWN]]
            return [f"{ref.name}@{tail}" for tail in tails]
        names = [name for name in self.names() if self._readable(name)]
        return get_close_matches(ref.name, names) or names[:_SHOWN]

    def _readable(self, name: str) -> list[StoredVersion]:
        """Return the versions of `name`; [] if its index is damaged."""
        try:
            return self._listed(name)
        except StoreError:
            return []

    def _listed(self, name: str) -> list[StoredVersion]:
        index = self._index(name)
        return [self._stored(name, number, index) for number in index.versions]

    def _stored(self, name: str, number: int, index: VersionIndex) -> StoredVersion:
        folder = self.root / name / str(number)
        aliases = tuple(sorted(alias for alias, at in index.aliases.items() if at == number))
        identity, origin = index.ids.get(number), index.origins.get(number)
        return StoredVersion(name, number, folder, aliases, identity, origin, number == index.current)

    def _index(self, name: str) -> VersionIndex:
        """Return the index without the versions whose folders a user has deleted."""
        home = self.root / name
        index = read_index(home)
        while True:
            present = index.restricted_to([each for each in index.versions if (home / str(each)).is_dir()])
            if present == index or (again := read_index(home)) == index:
                return present
            index = again  # it was replaced while the folders were checked


def _reference(ref: str | Reference) -> Reference:
    return Reference.parse(ref) if isinstance(ref, str) else ref


def _move_leftovers(home: Path, index: VersionIndex, work: Path) -> None:
    """Move the folders that the index lists as rubbish to the stage `work`, which is deleted later."""
    for number in index.rubbish:
        if (home / str(number)).is_dir():
            (home / str(number)).rename(work / str(number))
    sync_folder(home)
