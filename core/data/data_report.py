"""Checks the data of a training run without training; `adapters check` prints the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onetrunk.core.data.checks import check_rows
from onetrunk.core.data.dataset import Dataset, load_dataset
from onetrunk.core.data.notes import DOUBTFUL, Note
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.data.splits import Splits
from onetrunk.core.data.training_data import split_files, train_data_of
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import TaskSpec


@dataclass(frozen=True, slots=True)
class DataReport:
    """What training would find in its data.

    splits: the data sets that can be read, by split; also the dev split that is held out if no dev file is given.
    notes: on the data.
    errors: what training would refuse, one line each; with `ReadOptions.strict` also notes.
    """

    splits: Mapping[str, Dataset]
    notes: tuple[Note, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of texts: the median, the 95th percentile and the maximum."""

    median: int
    p95: int
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Lengths:
        """Summarize `lengths`, of which there is at least one."""
        ranked = sorted(lengths)
        median, p95 = (ranked[(len(ranked) - 1) * percent // 100] for percent in (50, 95))
        return cls(median, p95, ranked[-1])


def report_data(
    spec: TaskSpec,
    files: Splits,
    options: ReadOptions = AS_WRITTEN,
    advance: Callable[[int], None] = lambda _records: None,
) -> DataReport:
    """Read and check the files as training does, and report all errors instead of raising the first one.

    advance: see `load_dataset`.
    Raises DataError for a folder without training data; TaskSpecError if the code of the task fails.
    """
    errors: list[str] = []
    splits: dict[str, Dataset] = {}
    for split, file in split_files(files).items():
        try:
            splits[split] = load_dataset(spec, file, options, advance)
        except DataError as error:
            errors += error.lines
    notes = [note for each in splits.values() for note in (*each.notes, *check_rows(each, spec.level))]
    if "train" in splits:
        try:
            data = train_data_of(spec, splits)
        except DataError as error:
            errors += error.lines
        else:
            splits, notes = data.splits, list(data.notes)
    if options.strict:
        errors += [str(note).removeprefix("note: ") for note in notes if note.kind in DOUBTFUL]
    return DataReport(splits, tuple(notes), tuple(errors))
