"""Data sets: the examples of a task from files, and their checks."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from onetrunk.adapters.errors import first_few
from onetrunk.core.data.lines import DataSource, source_name
from onetrunk.core.data.normalize import Normalizer
from onetrunk.core.data.notes import Note, task_notes
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.data.readers import read_records
from onetrunk.core.data.record_checks import RecordChecks
from onetrunk.core.data.text_forms import LABELS_SHOWN, label_counts, nfc_target
from onetrunk.core.errors import DataError, PluginError
from onetrunk.core.tasks import IGNORE, Example, Labels, Record, Targets, TaskSpec
from onetrunk.core.tasks.guarded_calls import calling, notes_on, targets_of
from onetrunk.core.tasks.unknown_labels import known_targets

FAULTS_SHOWN = 5
"""The number of faulty lines that one message lists; further ones are only counted."""

_STEP = 500
"""Number of records after which the progress moves."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples in the order of their file.

    source: the name of the file for messages, with a note if they are a part of it.
    sha256: the hash of the content of the examples, in hexadecimal, from `content_sha256`.
    columns: the header of a table; () for other formats.
    notes: of the reader, of the checks of the data and of the task.
    label_hint: what to do if rows have no label; "" if nothing is known.
    """

    examples: tuple[Example, ...]
    source: str
    sha256: str
    columns: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    label_hint: str = ""


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


def load_dataset(
    spec: TaskSpec,
    path: DataSource,
    options: ReadOptions = AS_WRITTEN,
    advance: Callable[[int], None] = lambda _records: None,
) -> Dataset:
    """Read a whole file, or Python objects, as examples of the task `spec`. Labels are composed (NFC).

    path, options: see `read_records`.
    advance: called with the number of records that were read since its last call.
    Raises DataError for a record that breaks the format of the file, and for records that `TaskSpec.read` rejects
    with ValueError; the message lists up to `FAULTS_SHOWN` lines, or one fault that all rows of a table have.
    Raises TaskSpecError, with file and line, if `read` raises any other exception; PluginError for a target that
    cannot be hashed.
    """
    faults = _Faults()
    examples: list[Example] = []
    columns: tuple[str, ...] = ()
    notes: list[Note] = []
    normalizer, checks = Normalizer(path, options, spec.level), RecordChecks(path, options, spec.level)
    for number, source in enumerate(read_records(path, options, notes), 1):
        columns = source.columns
        if number % _STEP == 0:
            advance(_STEP)
        try:
            source = checks.prepare(source)
            record = normalizer.normalize(source.record, source.where, source.class_names)
            examples.append(_example(spec, checks, record, source.where))
        except ValueError as fault:
            faults.add(source.where, str(fault))
        else:
            normalizer.observe(record, examples[-1])
            checks.observe(examples[-1])
    name = source_name(path)
    faults.hint = normalizer.hint() or checks.hint(faults.shown[0][1] if faults.shown else "")
    faults.raise_any(name, len(examples) + faults.count, columns)
    notes += checks.notes() + normalizer.notes(name)
    notes += task_notes(notes_on(spec, examples), name)
    label_hint = checks.hint("no label")
    return Dataset(tuple(examples), name, content_sha256(examples), columns, tuple(notes), label_hint)


def _example(spec: TaskSpec, checks: RecordChecks, record: Record, where: str) -> Example:
    """Read a record. If the task rejects it, read it with prefixes for its tags, if they have none."""
    with calling(spec, "read", where, passing=(ValueError,)):
        try:
            example = spec.read(record)
        except ValueError:
            changed = checks.with_prefixes(record, where)
            if changed is None:
                raise
            example = spec.read(changed)
    return replace(example, target=nfc_target(example.target), where=where)


@dataclass(frozen=True, slots=True)
class CheckedTargets:
    """The targets of a data set, which are valid for the labels of an adapter.

    targets: of each example, with `IGNORE` for a unit whose label the adapter lacks.
    unknown: the labels that the adapter lacks, by index of the example.
    """

    targets: tuple[Targets, ...]
    unknown: Mapping[int, Labels]


def check_targets(
    spec: TaskSpec, dataset: Dataset, labels: Labels, *, allow_unknown: bool = False
) -> CheckedTargets:
    """Return the targets of all examples, and check that they are valid for `labels`.

    allow_unknown: whether the data is for evaluation, in which examples with unknown labels count as missed, unless
        nothing has a known label.
    Raises DataError that lists the lines with an unknown label, a number that is not finite, or integers mixed with
    floats.
    """
    checked = _targets(spec, dataset, dataset.examples, labels, allow_unknown)
    if checked.unknown and all(target == IGNORE for own in checked.targets for target in own):
        return _targets(spec, dataset, dataset.examples, labels)  # it raises DataError
    return checked


def unknown_label_notes(spec: TaskSpec, dataset: Dataset, unknown: Mapping[int, Labels]) -> list[Note]:
    """Return a note on the examples with labels that the adapter lacks, if there are any.

    unknown: see `CheckedTargets`.
    """
    if not unknown:
        return []
    rows = Counter(name for labels in unknown.values() for name in label_counts(labels, spec.level))
    names = first_few([f"{label} ({count})" for label, count in rows.most_common()], LABELS_SHOWN)
    have = "1 row has a label" if len(unknown) == 1 else f"{len(unknown):,} rows have labels"
    message = f"{have} that the training data lacks: {names}; they count as missed"
    first = dataset.examples[min(unknown)].where
    return [Note("unknown-labels", message, dataset.source, len(unknown), first)]


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


def _targets(
    spec: TaskSpec,
    dataset: Dataset,
    examples: Sequence[Example],
    labels: Labels,
    allow_unknown: bool = False,
) -> CheckedTargets:
    faults = _Faults()
    found: list[Targets] = []
    unknown: dict[int, Labels] = {}
    before: Targets = ()
    for index, example in enumerate(examples):
        try:
            if allow_unknown:
                targets, missing = known_targets(spec, example, labels, before)
            else:
                targets, missing = targets_of(spec, example, labels, before), ()
        except ValueError as fault:
            faults.add(example.where or dataset.source, str(fault))
            continue
        found.append(targets)
        before = targets or before
        if missing:
            unknown[index] = missing
    if any("no label" in message for _, message in faults.shown):
        faults.hint = dataset.label_hint
    faults.raise_any(dataset.source, len(dataset.examples), dataset.columns)
    return CheckedTargets(tuple(found), unknown)


def target_key(example: Example) -> str:
    """Return a string that is equal for examples with equal targets. Raises the errors of `canonical`."""
    return canonical([example.target, example.spans])


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
