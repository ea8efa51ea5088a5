"""The index of one adapter in the store: its versions, their aliases, and the version that the name means.

A change of an adapter takes effect when its `adapter.json` is replaced: a version exists if and only if the index
lists it. The folder of a new version is moved in before that, and the folder of a removed version is moved out
after it. If a crash comes between the two, a folder is left that the index lists as rubbish; the next change
deletes it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from onetrunk.adapters.errors import StoreError
from onetrunk.adapters.format import files, strict_json
from onetrunk.adapters.format.records import RecordFault, Sha256, Text, Whole, closed, read
from onetrunk.adapters.store.references import is_alias, is_name

SCHEMA = 5
"""The schema of `adapter.json` that this version writes; it reads all older ones."""

_INDEX = "adapter.json"
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_HUB = "https://huggingface.co"
_UNUSUAL = re.compile(r"[^a-z0-9._-]+")
_LONGEST_STEM = 54


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version was pulled from.

    place: `org/repo` or `file:///folder`.
    commit: id of the commit.
    follows: the branch, tag or commit that was requested.
    endpoint: URL of the Hub; None for a folder, and for versions of an old index, which did not record it.
    """

    place: Text
    commit: Text
    follows: Text
    endpoint: Text | None = None

    def __str__(self) -> str:
        """Return the location that always means this commit: `org/repo@commit`."""
        return f"{self.place}@{self.commit}"

    @property
    def cache_name(self) -> str:
        """The store's name for an adapter that is used by this location, without `adapters pull`.

        A repo of the public Hub gets the name `org--repo`; no repo has "--" in its name. Any other location, and a
        repo whose name is not valid in the store, gets a name with a hash of the location.
        """
        plain = self.place.replace("/", "--")
        if self.endpoint == _HUB and is_name(plain):
            return plain
        stem = f"file--{self.place.rpartition('/')[2]}" if self.place.startswith("file://") else plain
        stem = _UNUSUAL.sub("-", stem.lower())[:_LONGEST_STEM]
        digest = sha256(f"{self.endpoint or ''} {self.place}".encode()).hexdigest()[:8]
        name = f"{stem}--{digest}"
        return name if is_name(name) else f"location--{digest}"

    def is_at(self, other: Origin) -> bool:
        """Tell whether `other` is the same repo or folder, at any commit; an unknown endpoint equals any."""
        known = {self.endpoint, other.endpoint} - {None}
        return self.place == other.place and len(known) < 2


@closed
@dataclass(frozen=True, slots=True)
class VersionIndex:
    """The versions of one adapter, the content of `adapter.json`. Raises ValueError for numbers that do not fit.

    versions: numbers of the versions, ascending.
    last: the highest number that was ever used; 0 before the first version.
    aliases: alias → number of a version.
    rubbish: numbers that are not versions; their folders, if they exist, can be deleted.
    ids: number → id of the artifact when it was stored. Versions whose folders a user has copied here are left out.
    origins: number → where the version was pulled from.
    promoted: the versions that the name has meant, each once; the last one is the current version. () if the name
        means none of its versions; None in an index of an older schema, in which a name means the newest version.
    schema: of the file; schema 1 has no ids, schema 2 no origins, and schema 4 no `promoted`.
    """

    versions: tuple[int, ...] = ()
    last: Whole = 0
    aliases: Mapping[str, int] = field(default_factory=dict)
    rubbish: tuple[int, ...] = ()
    ids: Mapping[int, Sha256] = field(default_factory=dict)
    origins: Mapping[int, Origin] = field(default_factory=dict)
    promoted: tuple[int, ...] | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for name in ("versions", "rubbish"):
            numbers = getattr(self, name)
            in_range = all(1 <= number <= self.last for number in numbers)
            if not in_range or list(numbers) != sorted(set(numbers)):
                raise ValueError(f"{name} must be whole numbers from 1 to last, ascending")
        if not all(is_alias(alias) and number in self.versions for alias, number in self.aliases.items()):
            raise ValueError("aliases must be aliases of the versions")
        for name in ("ids", "origins"):
            if not set(getattr(self, name)) <= set(self.versions):
                raise ValueError(f"{name} must be those of the versions")
        meant = self.promoted or ()
        if not set(meant) <= set(self.versions) or len(set(meant)) != len(meant):
            raise ValueError("promoted must be versions, each once")

    @property
    def current(self) -> int | None:
        """The version that the name alone means; None if there is none."""
        meant = self.versions if self.promoted is None else self.promoted
        return meant[-1] if meant else None

    def reserve(self, number: int) -> VersionIndex:
        """Return the index with `number` as used; its folder is rubbish until `add` makes it a version."""
        return replace(self, last=number, rubbish=(number,))

    def add(self, number: int, identity: str, origin: Origin | None = None) -> VersionIndex:
        """Return the index with the reserved `number` as the newest version; the current version stays the same.

        identity: id of the artifact.
        """
        meant = self.promoted if self.promoted is not None else self.versions[-1:]
        versions, ids = (*self.versions, number), {**self.ids, number: identity}
        origins = self.origins if origin is None else {**self.origins, number: origin}
        return replace(self, versions=versions, rubbish=(), ids=ids, origins=origins, promoted=meant)

    def promote(self, number: int) -> VersionIndex:
        """Return the index with version `number` as the current one."""
        meant = self.promoted if self.promoted is not None else self.versions[-1:]
        return replace(self, promoted=(*(each for each in meant if each != number), number))

    def remove(self, numbers: Collection[int]) -> VersionIndex:
        """Return the index without the versions `numbers` and their aliases. Their folders become rubbish."""
        rubbish = tuple(sorted({*self.rubbish, *numbers}))
        return replace(self.restricted_to(set(self.versions) - set(numbers)), rubbish=rubbish)

    def restricted_to(self, numbers: Collection[int]) -> VersionIndex:
        """Return the index with only those versions, and their aliases, that are in `numbers`.

        If the current version is not in `numbers`, the name means the version that it meant before.
        """
        meant = self.promoted
        return replace(
            self,
            promoted=meant and tuple(each for each in meant if each in numbers),
            versions=tuple(each for each in self.versions if each in numbers),
            aliases={alias: number for alias, number in self.aliases.items() if number in numbers},
            ids={number: identity for number, identity in self.ids.items() if number in numbers},
            origins={number: origin for number, origin in self.origins.items() if number in numbers},
        )

    def with_alias(self, alias: str, number: int | None) -> VersionIndex:
        """Return the index with `alias` on version `number`; None: without the alias."""
        others = {each: at for each, at in self.aliases.items() if each != alias}
        return replace(self, aliases=others if number is None else {**others, alias: number})


def version_folders(home: Path) -> dict[int, Path]:
    """Return the folders of `home` whose names are version numbers, listed in the index or not."""
    if not home.is_dir():
        return {}
    return {
        int(path.name): path for path in home.iterdir() if _VERSION.fullmatch(path.name) and path.is_dir()
    }


def read_index(home: Path) -> VersionIndex:
    """Return the index of the adapter folder `home`. Raises StoreError.

    Without `adapter.json`, the versions are the folders that have a `task.json`: a user has copied them here, or
    the index was lost.
    """
    path = home / _INDEX
    try:
        value = strict_json.parse(files.read_regular(path, strict_json.MAX_BYTES))
        schema = value.get("schema") if isinstance(value, dict) else None
        if type(schema) is int and schema > SCHEMA:
            raise StoreError(
                f"{path} has schema {schema}, this version reads schema {SCHEMA}; upgrade onetrunk"
            )
        return replace(read(VersionIndex, value), schema=SCHEMA)
    except files.FileMissing:
        found = (number for number, path in version_folders(home).items() if (path / "task.json").is_file())
        versions = tuple(sorted(found))
        return VersionIndex(versions, max(versions, default=0))
    except (files.FileFault, RecordFault) as error:
        why = f"is faulty: {error}" if isinstance(error, RecordFault) else str(error)
        raise StoreError(
            f"{path} {why}; delete the file to get the versions back, without their aliases; the newest one is "
            "then the current version"
        ) from error


def write_index(home: Path, index: VersionIndex) -> None:
    """Replace the index of `home` atomically. The caller holds the store's lock. Raises OSError."""
    files.replace(home / _INDEX, strict_json.dump(asdict(index)))
