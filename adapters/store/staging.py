"""Stages, the temporary folders in which a change of the store is prepared, and the store's lock.

A stage is the folder `<root>/.staging/<token>/`. It has a file `lock`, which its process keeps locked. If that file
is not locked, the process has died, and the next change of the store deletes the stage.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from onetrunk.adapters.errors import StoreBusy, StoreError

_STAGING = ".staging"
_STAGE_LOCK = "lock"


@contextmanager
def locked(root: Path, seconds: float) -> Iterator[None]:
    """Hold the store's lock, which excludes other threads and processes. Creates `root` if it does not exist.

    Raises StoreBusy if the lock is not free within `seconds`, StoreError if the store cannot be written to.
    """
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(root / ".lock", timeout=seconds):
                yield
        except Timeout as error:
            raise StoreBusy(root, seconds) from error


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

    Deletes the stages of dead processes first. seconds: how long to wait for the lock. Raises the errors of
    `locked`.
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
        shutil.rmtree(folder, ignore_errors=True)  # the next change of the store deletes what is left
        lock.release()


def _delete_dead(staging: Path) -> None:
    for folder in sorted(staging.iterdir()) if staging.is_dir() else ():
        # An OSError is a Timeout if the process is alive, another error if the stage is being deleted.
        with suppress(OSError), FileLock(folder / _STAGE_LOCK, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
