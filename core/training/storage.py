"""Checks before training that the result can be stored, and a place for a result that could not be stored."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from pathlib import Path

from onetrunk.adapters.errors import OneTrunkError, StoreError
from onetrunk.adapters.format.artifact import MAX_WEIGHTS, ArtifactContent, artifact_bytes, write_artifact
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.adapters.remotes import open_remote
from onetrunk.adapters.remotes.locations import Location
from onetrunk.adapters.remotes.remote import MAIN
from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.machine import available_memory
from onetrunk.core.errors import UsageError

_COPIES = 5
"""Copies of the trained weights in memory: the weights, their gradients, two moments, and the best epoch."""
_MIB = 2**20


def check_label_count(labels: int, hidden: int, units: int) -> None:
    """Raise UsageError if a head for this number of labels cannot be stored, or does not fit into memory.

    hidden: the size of the hidden states. units: the number of texts or words of the largest split to evaluate.
    """
    weights = 4 * labels * hidden
    if weights > MAX_WEIGHTS:
        raise UsageError(
            f"{labels:,} labels with hidden states of size {hidden} need a head of {weights // _MIB:,} MiB, and an "
            f"adapter can have at most {MAX_WEIGHTS // _MIB:,} MiB; use fewer labels"
        )
    needed, free = _COPIES * weights + 4 * labels * units, available_memory()
    if free is not None and needed > free:
        raise UsageError(
            f"{labels:,} labels need about {needed // _MIB:,} MiB of memory for the head and for the logits of "
            f"{units:,} texts or words, and {free // _MIB:,} MiB are free; use fewer labels, or smaller dev and "
            "test files"
        )


def check_storable(store: Store, name: str, manifest: Manifest, content: ArtifactContent) -> None:
    """Check that an artifact of this size and form can become the next version of `name`. Call it before training.

    manifest, content: with untrained weights, and with metrics of the same form as the real ones.
    Raises ArtifactError if a file would be too large, StoreError if the disk has too little free space.
    """
    needed = artifact_bytes(store.root / name, manifest, content)
    folder = next(each for each in (store.root, *store.root.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    if free < needed + _MIB:
        raise StoreError(
            f"the adapter needs about {needed / _MIB:.1f} MiB in the store {store.root}, and its disk has "
            f"{free / _MIB:.1f} MiB free; free some space, or name another folder in ONETRUNK_HOME"
        )


def keep_aside(
    error: OneTrunkError, store: Store, name: str, manifest: Manifest, content: ArtifactContent
) -> StoreError:
    """Keep an artifact that the store did not take in a new folder, from which `adapters pull` can store it.

    Return the error to raise: what went wrong, where the adapter is, and how to store it.
    """
    faults = [str(error)]
    for parent in dict.fromkeys((tempfile.gettempdir(), os.getcwd())):
        try:
            location = _publish(Path(parent), name, manifest, content)
        except (OSError, OneTrunkError) as fault:
            faults.append(f"nor can it be kept in {parent} ({fault})")
            continue
        option = "--into" if (store.root / name).is_dir() else "--as"
        command = f"adapters pull {shlex.quote(str(location))} {option} {name}"
        return StoreError(
            f"{error}; the trained adapter is kept in {location.place}; store it with: {command}"
        )
    return StoreError("; ".join(faults))


def _publish(parent: Path, name: str, manifest: Manifest, content: ArtifactContent) -> Location:
    """Publish an artifact to a new folder in `parent`. Raises OSError, ArtifactError or RemoteError."""
    scratch = Path(tempfile.mkdtemp(prefix=f"onetrunk-{name}-", dir=parent))
    try:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            write_artifact(Path(folder), manifest, content)
            remote = open_remote(location := Location("folder", str(scratch / name)))
            remote.create(private=False)
            files = {path.name: path for path in Path(folder).iterdir()}
            remote.publish(files, branch=MAIN, parent=None, message="Kept aside", pull_request=False)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return location
