"""`check_task`: whether a task keeps the contract, by all that the core will ask of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from onetrunk.core.errors import TaskSpecError
from onetrunk.core.tasks import Record, TaskSpec
from onetrunk.core.testing.conformance import ConformanceChecks
from onetrunk.core.testing.tiny_backbone import tiny_backbone


def check_task(spec: TaskSpec, records: Sequence[Record], *, folder: Path | None = None) -> None:
    """Check `spec` on `records` (a dozen with targets are enough), by all that the core will ask of it.

    folder: an existing empty folder for the backbone and the store; a temporary one by default.
    Raises TaskSpecError that lists every fault found; what rests on a faulty part is not looked at.
    """
    if folder is None:
        with TemporaryDirectory() as scratch:
            return check_task(spec, records, folder=Path(scratch))
    faults = list(
        ConformanceChecks(spec, records, tiny_backbone(folder / "backbone"), folder / "store").faults()
    )
    if faults:
        raise TaskSpecError(spec.name, faults)
    return None
