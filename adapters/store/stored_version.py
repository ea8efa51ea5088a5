"""A version in the store, with what the index says about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onetrunk.adapters.errors import ArtifactError
from onetrunk.adapters.format.artifact import TASK, Artifact, read_artifact
from onetrunk.adapters.store.version_index import Origin


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version in the store.

    path: folder of the artifact.
    aliases: sorted, at the time when the index was read.
    id: id of the artifact when it was stored; None if a user has copied the folder into the store.
    origin: where the version was pulled from; None if it was trained or imported here.
    is_current: whether the name alone meant this version when the index was read.
    """

    name: str
    version: int
    path: Path
    aliases: tuple[str, ...] = ()
    id: str | None = None
    origin: Origin | None = None
    is_current: bool = False

    @property
    def ref(self) -> str:
        """The reference that always means this version: `ner@3`."""
        return f"{self.name}@{self.version}"

    @property
    def is_cached(self) -> bool:
        """Whether the adapter was only used by its location, such as `org/repo`, without `adapters pull`."""
        return self.origin is not None and self.name == self.origin.cache_name

    def read(self) -> Artifact:
        """Read and verify the artifact. Raises ArtifactError, also if another valid artifact has replaced it."""
        artifact = read_artifact(self.path)
        if self.id not in (None, artifact.id):
            raise ArtifactError(
                self.path,
                f"{TASK} was changed after {self.ref} had been stored; restore it, or store the adapter again",
            )
        return artifact
