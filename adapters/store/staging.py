"""Work aside: folders in which a change of the store is prepared, and the locks that keep them and it safe.

A stage is `<root>/.staging/<token>/` with a file `lock` that its process holds while it lives. Who finds a stage
whose lock is free knows that its process died, and deletes it.
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
    """Hold the store's lock, across threads and processes; makes `root` if need be.

    Raises StoreBusy after waiting for `seconds`, StoreError where the store cannot be written.
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
    """Turn an OSError of the store's own writing into a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write to the store {root} ({error.strerror or error}); make it a writable folder with free "
            "space, or name another in ONETRUNK_HOME"
        ) from error


@contextmanager
def stage(root: Path, seconds: float) -> Iterator[Path]:
    """Give a new empty folder on the store's file system; it is deleted at the end, whatever is left in it.

    Deletes the stages of dead processes first. Raises like `locked`.
    """
    with locked(root, seconds):  # so that nobody takes the new stage, not yet locked, for a dead one
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
        except OSError:  # Timeout is one: its process lives; any other: it is just being deleted, or foreign
            continue
        _delete(folder)
        lock.release()


def _delete(folder: Path) -> None:
    """Delete as much of `folder` as can be: it is rubbish, and what stays is tried again at the next change."""
    shutil.rmtree(folder, ignore_errors=True)
