"""Data sets: examples of a task read from files, their checks and splits; and texts to predict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onetrunk.core.data.lines import DataSource, is_stream, read_lines, source_name
from onetrunk.core.data.normalize import Normalizer
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.data.readers import SUFFIXES, SourceRecord, read_records, split_suffix
from onetrunk.core.data.stratified import draw_stratified
from onetrunk.core.errors import DataError, PluginError, UsageError
from onetrunk.core.tasks import Example, Labels, Record, Targets, TaskSpec
from onetrunk.core.tasks.guarded_calls import calling, notes_on, targets_of

FAULTS_SHOWN = 5
"""The largest number of faulty lines that one message lists; the others are only counted."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples in the order of their file.

    source: the origin of the examples, for messages.
    sha256: hexadecimal, of the content of the examples, see `content_sha256`.
    columns: the header of a table; () for other formats.
    notes: of the reader, of the checks of the data and of the task.
    """

    examples: tuple[Example, ...]
    source: str
    sha256: str
    columns: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Splits:
    """The data of a training run: files, or Python objects; `dev` and `test` are None if there are none."""

    train: DataSource
    dev: DataSource | None = None
    test: DataSource | None = None


@dataclass(frozen=True, slots=True)
class TextRecord:
    """A text to predict. extra: the other keys of its record. where: `file:line`."""

    text: str
    extra: Mapping[str, Any]
    where: str


@dataclass
class _Faults:
    """Faulty lines, collected for one message. The same fault in all rows of a table is one of its header."""

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

    path, options: as for `read_records`.
    Raises DataError for a record that breaks the format of the file, and for records that `read` of the task
    rejects; the message lists up to `FAULTS_SHOWN` lines, or one fault that all rows of a table have. Raises
    PluginError for a target that cannot be hashed; TaskSpecError, with file and line, if `read` raises otherwise.
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
            examples.append(_example(spec, record, source.where))
        except ValueError as fault:
            faults.add(source.where, str(fault))
        else:
            normalizer.observe(record, examples[-1])
    name = source_name(path)
    faults.hint = normalizer.hint()
    faults.raise_any(name, len(examples) + faults.count, columns)
    notes += normalizer.notes(name)
    notes += [Note("task", text, name) for text in notes_on(spec, examples)]
    return Dataset(tuple(examples), name, content_sha256(examples), columns, tuple(notes))


def check_targets(spec: TaskSpec, dataset: Dataset, labels: Labels) -> list[Targets]:
    """Return the targets of all examples, after a check that they are valid for `labels`.

    Raises DataError that lists the lines with an unknown label, a number that is not finite, or integers mixed with
    floats.
    """
    return _targets(spec, dataset, dataset.examples, labels)


def check_any_missing(spec: TaskSpec, dataset: Dataset) -> None:
    """Check, before the labels are known, that the task can train on its examples without a target.

    Raises DataError as `check_targets` does.
    """
    _targets(spec, dataset, [example for example in dataset.examples if example.target is None], ())


def content_sha256(examples: Sequence[Example]) -> str:
    """Return the sha256 (hexadecimal) of text, words and target of all examples, in order.

    It does not depend on file, format and line, on whether a target uses tuples or lists, or on the order of a set.
    Raises PluginError for a target that contains anything but strings, numbers, None, sequences, sets and mappings.
    """
    digest = hashlib.sha256()
    for example in examples:
        digest.update(_canonical([example.text, example.words, example.target]).encode("ascii") + b"\n")
    return digest.hexdigest()


def hold_out(dataset: Dataset, fraction: float = 0.1, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Split `dataset` into (train, dev) with about `fraction` of the rows in dev, each part in file order.

    The sample is stratified by label, or by the set of labels if a target is a sequence; see `draw_stratified`.
    Each label stays in train. The result is the same on every platform.
    Raises UsageError unless 0 < fraction < 1; DataError if no row can be held out.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"the fraction to hold out is {fraction}; expected a number between 0 and 1")
    chosen = draw_stratified([_labels_of(example.target) for example in dataset.examples], fraction, seed)
    if not chosen:
        few = "too few rows to hold out a dev split: each label needs at least two"
        raise DataError(dataset.source, f"{few}; add rows, or give a dev file")
    share = f"{100 * fraction:g} % held out, seed {seed}"
    train = [example for row, example in enumerate(dataset.examples) if row not in chosen]
    dev = [example for row, example in enumerate(dataset.examples) if row in chosen]
    return (
        _part(dataset, train, f"{dataset.source} (without the {share})"),
        _part(dataset, dev, f"{dataset.source} (the {share})"),
    )


def load_unlabelled(
    path: DataSource, options: ReadOptions = AS_WRITTEN, notes: list[Note] | None = None
) -> Iterator[TextRecord]:
    """Yield the texts of a file, or of Python objects, one at a time.

    The format `text` has one text per line; an empty line is an empty text. It is the default for `.txt`, standard
    input, and a pipe without a known suffix. Other files are read by `read_records`; each record needs a `text`.
    Raises DataError, on iteration, as `read_records` does, and for a record without a text.
    """
    if not isinstance(path, str | Path):
        return (_text_record(source) for source in read_records(path, options, notes))
    _, suffix = split_suffix(Path(path).name)
    plain = suffix == ".txt" or (suffix not in SUFFIXES and is_stream(path))
    if options.format == "text" or (options.format is None and plain):
        return _plain_texts(path)
    return (_text_record(source) for source in read_records(path, options, notes))


def _example(spec: TaskSpec, record: Record, where: str) -> Example:
    with calling(spec, "read", where, passing=(ValueError,)):
        return replace(spec.read(record), where=where)


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


def _part(dataset: Dataset, examples: Sequence[Example], source: str) -> Dataset:
    return replace(
        dataset, examples=tuple(examples), source=source, sha256=content_sha256(examples), notes=()
    )


def _canonical(value: object) -> str:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    except TypeError as fault:
        allowed = "strings, numbers, None, sequences, sets and mappings"
        raise PluginError(f"a target cannot be hashed: {fault}; expected {allowed}") from fault


def _plain(value: object) -> object:
    if isinstance(value, set | frozenset):
        return sorted(value, key=_canonical)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"it contains a {type(value).__name__}")


def _labels_of(target: object) -> tuple[str, ...]:
    """Return the distinct labels of a target, sorted; () for None and for a float."""
    if target is None or isinstance(target, float):
        return ()
    if isinstance(target, str) or not isinstance(target, Sequence | set | frozenset):
        return (_canonical(target),)
    return tuple(sorted({_canonical(label) for label in target}))


def _plain_texts(path: str | Path) -> Iterator[TextRecord]:
    name, number = source_name(path), 0
    for number, line in read_lines(path):
        yield TextRecord(line.removesuffix("\n").removesuffix("\r"), {}, f"{name}:{number}")
    if not number:
        raise DataError(name, "is empty; expected one text per line")


def _text_record(source: SourceRecord) -> TextRecord:
    extra = dict(source.record)
    text = extra.pop("text", None)
    if not isinstance(text, str):
        keys = ", ".join(source.record)
        raise DataError(source.where, f'"text" must be a string; the record has: {keys or "nothing"}')
    return TextRecord(text, extra, source.where)
