"""Data sets: the examples of a task from files, and their checks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from onetrunk.core.data.lines import DataSource, source_name
from onetrunk.core.data.normalize import Normalizer
from onetrunk.core.data.notes import Note, task_notes
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.data.readers import read_records
from onetrunk.core.errors import DataError, PluginError
from onetrunk.core.tasks import Example, Labels, Targets, TaskSpec
from onetrunk.core.tasks.guarded_calls import calling, notes_on, targets_of

FAULTS_SHOWN = 5
"""The number of faulty lines that one message lists; further ones are only counted."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples in the order of their file.

    source: the name of the file for messages, with a note if they are a part of it.
    sha256: the hash of the content of the examples, in hexadecimal, from `content_sha256`.
    columns: the header of a table; () for other formats.
    notes: of the reader, of the checks of the data and of the task.
    """

    examples: tuple[Example, ...]
    source: str
    sha256: str
    columns: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass
class _Faults:
    """Faulty lines, collected for one message. If all rows of a table have the same fault, it names the header."""

    shown: list[tuple[str, str]] = field(default_factory=list)
    count: int = 0
    alike: bool = True
    hint: str | None = None
    """A remedy for the faults of all rows."""

    def add(self, where: str, message: str) -> None:
        self.count += 1
        if len(self.shown) < FAULTS_SHOWN:
            self.shown.append((where, message))
        self.alike = self.alike and message == self.shown[0][1]

    def raise_any(self, source: str, rows: int, columns: Sequence[str]) -> None:
        if not self.shown:
            return
        (where, message), *others = self.shown
        if columns and self.alike and self.count == rows > 1:
            header = f"all {rows} rows have the same fault; check the header ({', '.join(columns)})"
            raise DataError(source, f"{header}: {message}", [self.hint] if self.hint else ())
        also = [f"{place}: {text}" for place, text in others]
        if self.count > len(self.shown):
            also.append(f"… and {self.count - len(self.shown)} more")
        raise DataError(where, message, [*also, self.hint] if self.hint else also)


def load_dataset(spec: TaskSpec, path: DataSource, options: ReadOptions = AS_WRITTEN) -> Dataset:
    """Read a whole file, or Python objects, as examples of the task `spec`.

    path, options: see `read_records`.
    Raises DataError for a record that breaks the format of the file, and for records that `TaskSpec.read` rejects
    with ValueError; the message lists up to `FAULTS_SHOWN` lines, or one fault that all rows of a table have.
    Raises TaskSpecError, with file and line, if `read` raises any other exception; PluginError for a target that
    cannot be hashed.
    """
    faults = _Faults()
    examples: list[Example] = []
    columns: tuple[str, ...] = ()
    notes: list[Note] = []
    normalizer = Normalizer(path, options, spec.level)
    for source in read_records(path, options, notes):
        columns = source.columns
        try:
            record = normalizer.normalize(source.record, source.where, source.class_names)
            with calling(spec, "read", source.where, passing=(ValueError,)):
                examples.append(replace(spec.read(record), where=source.where))
        except ValueError as fault:
            faults.add(source.where, str(fault))
        else:
            normalizer.observe(record, examples[-1])
    name = source_name(path)
    faults.hint = normalizer.hint()
    faults.raise_any(name, len(examples) + faults.count, columns)
    notes += normalizer.notes(name)
    notes += task_notes(notes_on(spec, examples), name)
    return Dataset(tuple(examples), name, content_sha256(examples), columns, tuple(notes))


def check_targets(spec: TaskSpec, dataset: Dataset, labels: Labels) -> list[Targets]:
    """Return the targets of all examples, and check that they are valid for `labels`.

    Raises DataError that lists the lines with an unknown label, a number that is not finite, or integers mixed with
    floats.
    """
    return _targets(spec, dataset, dataset.examples, labels)


def check_any_missing(spec: TaskSpec, dataset: Dataset) -> None:
    """Check that the task can train on the examples that have no target. The labels need not be known yet.

    Raises DataError that lists the lines on which it cannot train.
    """
    _targets(spec, dataset, [example for example in dataset.examples if example.target is None], ())


def content_sha256(examples: Sequence[Example]) -> str:
    """Return the sha256 (hexadecimal) of text, words, target and spans of all examples, in order.

    It does not depend on the file and its format, on tuples or lists in a target, and on the order of a set.
    Raises PluginError for a target that contains anything but strings, numbers, None, sequences, sets and mappings.
    """
    digest = hashlib.sha256()
    for example in examples:
        digest.update(canonical(_content(example)).encode("ascii") + b"\n")
    return digest.hexdigest()


def _content(example: Example) -> list[object]:
    own: list[object] = [example.text, example.words, example.target]
    return [*own, example.spans] if example.spans else own


def _targets(spec: TaskSpec, dataset: Dataset, examples: Sequence[Example], labels: Labels) -> list[Targets]:
    faults = _Faults()
    found: list[Targets] = []
    before: Targets = ()
    for example in examples:
        try:
            found.append(targets_of(spec, example, labels, before))
            before = found[-1] or before
        except ValueError as fault:
            faults.add(example.where or dataset.source, str(fault))
    faults.raise_any(dataset.source, len(dataset.examples), dataset.columns)
    return found


def canonical(value: object) -> str:
    """Return a JSON text that is equal for equal targets. Raises PluginError for other types."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    except TypeError as fault:
        allowed = "strings, numbers, None, sequences, sets and mappings"
        raise PluginError(f"a target cannot be hashed: {fault}; expected {allowed}") from fault


def _plain(value: object) -> object:
    if isinstance(value, set | frozenset):
        return sorted(value, key=canonical)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"it contains a {type(value).__name__}")
