"""Data sets: examples of a task read from files, their checks and splits; and texts to predict."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onetrunk.core.data.lines import is_stream, read_lines, source_name
from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.data.readers import SUFFIXES, SourceRecord, read_records, split_suffix
from onetrunk.core.data.stratified import draw_stratified
from onetrunk.core.errors import DataError, PluginError, UsageError
from onetrunk.core.tasks import Example, Labels, Targets, TaskSpec
from onetrunk.core.tasks.guarded_calls import calling, notes_on, targets_of

FAULTS_SHOWN = 5
"""The largest number of faulty lines that one message lists; the others are only counted."""

SPLIT_NAMES = {
    "train": ("train",),
    "dev": ("dev", "valid", "validation", "val"),
    "test": ("test",),
}
"""The file names of each split in a folder, in lower case and without suffix."""


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
    """The data files of a training run; `dev` and `test` are None if there are none."""

    train: str | Path
    dev: str | Path | None = None
    test: str | Path | None = None


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
            raise DataError(source, f"{header}: {message}")
        also = [f"{place}: {text}" for place, text in others]
        if self.count > len(self.shown):
            also.append(f"… and {self.count - len(self.shown)} more")
        raise DataError(where, message, also)


def load_dataset(spec: TaskSpec, path: str | Path, options: ReadOptions = AS_WRITTEN) -> Dataset:
    """Read a whole file as examples of the task `spec`.

    path, options: as for `read_records`.
    Raises DataError for a record that breaks the format of the file, and for records that `read` of the task
    rejects; the message lists up to `FAULTS_SHOWN` lines, or one fault that all rows of a table have. Raises
    PluginError for a target that cannot be hashed; TaskSpecError, with file and line, if `read` raises otherwise.
    """
    faults = _Faults()
    examples: list[Example] = []
    columns: tuple[str, ...] = ()
    notes: list[Note] = []
    for source in read_records(path, options, notes):
        columns = source.columns
        try:
            examples.append(_example(spec, source))
        except ValueError as fault:
            faults.add(source.where, str(fault))
    name = source_name(path)
    faults.raise_any(name, len(examples) + faults.count, columns)
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


def find_splits(folder: str | Path) -> Splits:
    """Return the data files of `folder`: a name of `SPLIT_NAMES` and a suffix of `SUFFIXES`, also with `.gz`.

    Raises DataError if `folder` is not a folder, has no train file, or has two files for one split.
    """
    if not os.path.isdir(folder):
        raise DataError(
            str(folder), "no such folder; expected one with train.*, and optionally dev.* and test.*"
        )
    train, dev, test = (_split_file(folder, split) for split in ("train", "dev", "test"))
    if train is None:
        raise _missing(folder, "train")
    return Splits(train, dev, test)


def find_evaluation(folder: str | Path) -> Path:
    """Return the test file of `folder`, or its dev file without one. Raises DataError as `find_splits` does."""
    file = _split_file(folder, "test") or _split_file(folder, "dev")
    if file is None:
        raise _missing(folder, "test or dev")
    return file


def load_unlabelled(
    path: str | Path, options: ReadOptions = AS_WRITTEN, notes: list[Note] | None = None
) -> Iterator[TextRecord]:
    """Yield the texts of a file, one at a time.

    The format `text` has one text per line; an empty line is an empty text. It is the default for `.txt`, standard
    input, and a pipe without a known suffix. Other files are read by `read_records`; each record needs a `text`.
    Raises DataError, on iteration, as `read_records` does, and for a record without a text.
    """
    _, suffix = split_suffix(Path(path).name)
    plain = suffix == ".txt" or (suffix not in SUFFIXES and is_stream(path))
    if options.format == "text" or (options.format is None and plain):
        return _plain_texts(path)
    return (_text_record(source) for source in read_records(path, options, notes))


def _example(spec: TaskSpec, source: SourceRecord) -> Example:
    with calling(spec, "read", source.where, passing=(ValueError,)):
        return replace(spec.read(source.record), where=source.where)


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


def _files(folder: str | Path) -> list[Path]:
    """Return the files in `folder`, sorted. Raises DataError if it cannot be read."""
    try:
        return sorted(file for file in Path(folder).iterdir() if file.is_file())
    except OSError as fault:
        raise DataError(
            str(folder), f"the folder cannot be read: {fault.strerror}; check its permissions"
        ) from fault


def _missing(folder: str | Path, split: str) -> DataError:
    expected = f"{split} with one of the suffixes {', '.join(SUFFIXES)}"
    found = ", ".join(file.name for file in _files(folder)[:8]) or "no file"
    return DataError(str(folder), f"has no {split} file; expected {expected}; found {found}")


def _split_file(folder: str | Path, split: str) -> Path | None:
    found = []
    for file in _files(folder):
        stem, suffix = split_suffix(file.name)
        if stem in SPLIT_NAMES[split] and suffix in SUFFIXES:
            found.append(file)
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise DataError(
            str(folder), f"has {len(found)} files for the {split} split: {names}; keep one, or name the file"
        )
    return found[0] if found else None


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
