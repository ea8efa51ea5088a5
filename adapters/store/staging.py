"""Temporary folders in which a change of the store is prepared, and the store's lock.

A stage is `<root>/.staging/<token>/` with a file `lock`, which its process holds as long as it runs. A stage whose
lock is free belongs to a dead process; the next change deletes it.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from onetrunk.adapters.errors import StoreBusy, StoreError

_STAGING = ".staging"
_LOCK = ".lock"
_STAGE_LOCK = "lock"


@contextmanager
def locked(root: Path, seconds: float) -> Iterator[None]:
    """Hold the store's lock, which excludes other threads and processes. Creates `root` if it does not exist.

    Raises StoreBusy if the lock is not free within `seconds`, StoreError if the store cannot be written to.
    """
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / _LOCK, timeout=seconds)
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreBusy(root, seconds) from error
    try:
        with writing(root):
            yield
    finally:
        lock.release()


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Turn an OSError of a write to the store into a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write to the store {root} ({error.strerror or error}); make it a writable folder with free "
            "space, or name another in ONETRUNK_HOME"
        ) from error


@contextmanager
def stage(root: Path, seconds: float) -> Iterator[Path]:
    """Give a new empty folder on the store's file system, and delete it with its content at the end.

    Deletes the stages of dead processes first. Raises the errors of `locked`.
    """
    with locked(root, seconds):  # otherwise another process could delete the new stage before it is locked
        _delete_dead(root / _STAGING)
        folder = root / _STAGING / uuid.uuid4().hex
        (folder / "work").mkdir(parents=True)
        lock = FileLock(folder / _STAGE_LOCK, timeout=0)
        lock.acquire()
    try:
        yield folder / "work"
    finally:
        _delete(folder)
        lock.release()


def _delete_dead(staging: Path) -> None:
    for folder in sorted(staging.iterdir()) if staging.is_dir() else ():
        lock = FileLock(folder / _STAGE_LOCK, timeout=0)
        try:
            lock.acquire()
        except OSError:  # Timeout (an OSError): its process lives. Others: it is being deleted, or not ours
            continue
        _delete(folder)
        lock.release()


def _delete(folder: Path) -> None:
    """Delete `folder` as far as possible; the next change of the store deletes the rest."""
    shutil.rmtree(folder, ignore_errors=True)
