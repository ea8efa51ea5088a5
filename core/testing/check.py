"""`check_task`: checks that a task follows the contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from onetrunk.core.errors import TaskSpecError
from onetrunk.core.tasks import Record, TaskSpec
from onetrunk.core.testing.conformance import ConformanceChecks
from onetrunk.core.testing.tiny_backbone import tiny_backbone


def check_task(spec: TaskSpec, records: Sequence[Record], *, folder: Path | None = None) -> None:
    """Check that the task `spec` follows the contract, by training, storing, loading and predicting on `records`.

    records: raw records with targets; a dozen are enough.
    folder: an existing empty folder for the backbone and the store; a temporary one by default.
    Raises TaskSpecError that lists every fault; checks that depend on a failed one are skipped.
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
