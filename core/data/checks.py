"""Checks of data sets: examples → notes on what makes a result doubtful, although the data can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

from onetrunk.adapters.errors import first_few
from onetrunk.adapters.format.manifest import Manifest
from onetrunk.core.data.dataset import Dataset, check_targets, target_key, unknown_label_notes
from onetrunk.core.data.notes import Note
from onetrunk.core.data.text_forms import (
    LABELS_SHOWN,
    counted,
    label_counts,
    label_key,
    text_groups,
    text_key,
)
from onetrunk.core.tasks import Example, Labels, Level, TaskSpec

IMBALANCE = 50
"""A label with this many times the rows of another one gets a note."""
MANY_ROWS = 20
"""Shares of fewer rows than this depend largely on chance, and get no note."""
LEAKY = 0.9
"""If a larger share of the texts contain their own label, the labels may have leaked into the texts."""
SHIFT = 0.3
"""A larger difference (total variation distance) between the labels of train and dev gets a note."""
SWAPPED = 2
"""A dev or test split with more than this many times the rows of train gets a note."""

_BEGINNING = 40
_GROUPS_SHOWN = 5


def check_rows(dataset: Dataset, level: Level) -> list[Note]:
    """Return notes on the rows of one data set: texts with several labels, copies, empty texts, leaked labels."""
    texts = _repeated_texts(dataset)
    return [
        *_contradictions(dataset, texts, level),
        *_copies(dataset, texts),
        *_empty_texts(dataset),
        *_labels_in_texts(dataset, level),
    ]


def check_splits(splits: Mapping[str, Dataset], level: Level) -> list[Note]:
    """Return notes on the rows and labels of several data sets together.

    splits: `train`, and `dev` and `test` if they are given, in this order.
    """
    notes: list[Note] = []
    others = list(splits.items())[:-1]
    keys = {name: text_groups(dataset.examples) for name, dataset in others}
    for (other_name, other), (name, own) in combinations(splits.items(), 2):
        notes += _leaks((name, own), (other_name, other), keys[other_name])
    counts = {name: count_labels(dataset.examples, level) for name, dataset in splits.items()}
    places = _first_places(splits.values(), level)
    notes += look_alike_labels(splits["train"].source, sum(counts.values(), Counter()), places)
    notes += _train_labels(splits["train"].source, counts["train"], places, level)
    for name, dataset in list(splits.items())[1:]:
        notes += _evaluated_labels((name, dataset), counts["train"], counts[name], level)
        notes += _sizes((name, dataset), splits["train"])
    return notes


def check_evaluation(spec: TaskSpec, dataset: Dataset, manifest: Manifest) -> list[Note]:
    """Return notes on data on which a stored adapter is evaluated.

    Raises the errors of `check_targets`.
    """
    checked = check_targets(spec, dataset, manifest.labels, allow_unknown=True)
    notes = [*dataset.notes, *unknown_label_notes(spec, dataset, checked.unknown)]
    counts = count_labels(dataset.examples, spec.level)
    known = dict.fromkeys(label_counts(manifest.labels, spec.level), 0)
    notes += check_rows(dataset, spec.level)
    notes += look_alike_labels(dataset.source, {**known, **counts}, _first_places([dataset], spec.level))
    train = manifest.data.get("train")
    if train is not None and train.sha256 == dataset.sha256:
        message = "this is the data that the adapter was trained on; the metrics are too high"
        notes.append(Note("leak", message, dataset.source, len(dataset.examples)))
    return notes


def look_alike_labels(source: str, labels: Mapping[str, int], places: Mapping[str, str]) -> list[Note]:
    """Return a note on labels that differ in Unicode form, case, white space, hyphens or underscores only.

    labels: the number of rows by label.
    places: `file:line` of the first row by label.
    """
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(label_key(label), []).append(label)
    alike = [sorted(group, key=lambda label: (-labels[label], label)) for group in groups.values()]
    alike = [group for group in alike if len(group) > 1]
    if not alike:
        return []
    shown = [first_few([f"{label!r} ({labels[label]})" for label in group], LABELS_SHOWN) for group in alike]
    also = f" and {len(alike) - _GROUPS_SHOWN} more" if len(alike) > _GROUPS_SHOWN else ""
    what = "labels look alike" if len(alike) == 1 else f"{len(alike)} groups of labels look alike"
    message = (
        f"{what}, but are different classes: {'; '.join(shown[:_GROUPS_SHOWN])}{also}; spell each one way"
    )
    first = next((places[label] for label in reversed(alike[0]) if label in places), "")
    return [Note("look-alike-labels", message, source, sum(map(len, alike)), first)]


def missing_parent_labels(dataset: Dataset, labels: Labels, level: Level) -> list[Note]:
    """Return a note on labels of the adapter to continue from without examples in the training data `dataset`."""
    every = label_counts(labels, level)
    found = count_labels(dataset.examples, level)
    missing = [label for label in every if label not in found]
    if not missing:
        return []
    have = f"has no rows of {len(missing)} of the {len(every)} labels of the adapter to continue from"
    message = f"{have}: {first_few(missing, LABELS_SHOWN)}; training may forget them; add rows of them"
    return [Note("missing-parent-labels", message, dataset.source, len(missing))]


def count_labels(examples: Iterable[Example], level: Level) -> Counter[str]:
    """Return the number of rows by label; for a task on tokens, the number of entities by type."""
    counts: Counter[str] = Counter()
    for example in examples:
        if level == "text" and isinstance(example.target, str):
            counts[example.target] += 1
        else:
            counts.update(label_counts(example.target, level))
    return counts


def _first_places(datasets: Iterable[Dataset], level: Level) -> dict[str, str]:
    """Return `file:line` of the first row by label."""
    places: dict[str, str] = {}
    for dataset in datasets:
        for example in dataset.examples:
            plain = level == "text" and isinstance(example.target, str)
            for label in (example.target,) if plain else label_counts(example.target, level):
                places.setdefault(label, example.where)
    return places


def _repeated_texts(dataset: Dataset) -> list[list[tuple[int, str]]]:
    """Return the indices of the rows of each text that several rows have, with their targets as `target_key`."""
    groups = text_groups(dataset.examples)
    return [
        [(row, target_key(dataset.examples[row])) for row in rows]
        for key, rows in groups.items()
        if len(rows) > 1 and key
    ]


def _contradictions(dataset: Dataset, texts: Iterable[list[tuple[int, str]]], level: Level) -> Iterator[Note]:
    """Yield a note on texts with several targets. texts: from `_repeated_texts`."""
    found: list[tuple[int, int]] = []  # of each text: the first row with another target, and its first row
    for rows in texts:
        labelled = [(row, target) for row, target in rows if dataset.examples[row].target is not None]
        if others := [row for row, target in labelled if target != labelled[0][1]]:
            found.append((others[0], labelled[0][0]))
    if not found:
        return
    other, first = (dataset.examples[row] for row in min(found))
    names = [first_few(sorted(label_counts(each.target, level)), 3) for each in (first, other)]
    which = f" ({' and '.join(names)})" if all(names) and names[0] != names[1] else ""
    have = "1 text has" if len(found) == 1 else f"{len(found):,} texts have"
    message = f"{have} more than one label, such as {_beginning(first)}{which}; keep the right one"
    yield Note("same-text-two-labels", message, dataset.source, len(found), other.where)


def _copies(dataset: Dataset, texts: Iterable[list[tuple[int, str]]]) -> Iterator[Note]:
    """Yield a note on rows that repeat a text with its target. texts: from `_repeated_texts`."""
    copies: list[int] = []
    for rows in texts:
        firsts = {target: row for row, target in reversed(rows)}
        copies += [row for row, target in rows if row != firsts[target]]
    if copies:
        are = "1 row is a copy" if len(copies) == 1 else f"{len(copies):,} rows are copies"
        message = f"{are} of an earlier row with the same text and label"
        first = dataset.examples[min(copies)].where
        yield Note("duplicate-rows", message, dataset.source, len(copies), first)


def _empty_texts(dataset: Dataset) -> Iterator[Note]:
    empty = [example for example in dataset.examples if not text_key(example.text)]
    if empty:
        are = "1 text is" if len(empty) == 1 else f"{len(empty):,} texts are"
        yield Note("empty-texts", f"{are} empty", dataset.source, len(empty), empty[0].where)


def _labels_in_texts(dataset: Dataset, level: Level) -> Iterator[Note]:
    labelled = [
        example for example in dataset.examples if level == "text" and isinstance(example.target, str)
    ]
    holding = [each for each in labelled if each.target.casefold() in each.text.casefold()]
    if len(holding) >= MANY_ROWS and len(holding) > LEAKY * len(labelled):
        share = f"{len(holding):,} of {len(labelled):,} texts contain their own label"
        message = f"{share}; remove the labels from the texts, unless new texts have them too"
        yield Note("label-in-text", message, dataset.source, len(holding), holding[0].where)


def _leaks(
    own: tuple[str, Dataset], other: tuple[str, Dataset], texts: Mapping[str, list[int]]
) -> Iterator[Note]:
    """Yield a note on the rows of `own` with a text of `other`. texts: of `other`, by `text_key`."""
    (name, dataset), (other_name, others) = own, other
    if dataset.sha256 == others.sha256:
        message = f"{name} and {other_name} are the same data; {_consequence(name, other_name)}"
        yield Note("leak", message, dataset.source, len(dataset.examples), dataset.examples[0].where)
        return
    found = [each for each in dataset.examples if (key := text_key(each.text)) and key in texts]
    if not found:
        return
    differing = sum(
        all(target_key(others.examples[row]) != target_key(each) for row in texts[text_key(each.text)])
        for each in found
    )
    also = f", {differing:,} with another label" if differing else ""
    share = (
        f"{len(found):,} of {counted(len(dataset.examples), 'row')} have a text that is also in {other_name}"
    )
    message = f"{share}{also}; {_consequence(name, other_name)}"
    yield Note("leak", message, dataset.source, len(found), found[0].where)


def _consequence(name: str, other: str) -> str:
    why = "trained on" if other == "train" else "used to choose the best epoch"
    return f"they make the metrics on {name} too high, because they were {why}; remove them from one of the files"


def _train_labels(
    source: str, counts: Counter[str], places: Mapping[str, str], level: Level
) -> Iterator[Note]:
    unit = "row" if level == "text" else "example"
    if rare := sorted(label for label, count in counts.items() if count == 1):
        have = f"{counted(len(rare), 'label')} with a single {unit}"
        message = f"{have}: {first_few(rare, LABELS_SHOWN)}; a label is learnt from several"
        yield Note("rare-labels", message, source, len(rare), places[rare[0]])
    if level == "text" and len(counts) > 1 and counts.total() >= MANY_ROWS:
        (most, many), *_, (least, few) = counts.most_common()
        if many >= IMBALANCE * few:
            message = (
                f"{most} has {counted(many, 'row')}, {least} has {few}; accuracy says little about rare labels; "
                "--class-weights balanced gives all labels the same weight"
            )
            yield Note("imbalance", message, source, many)


def _evaluated_labels(
    own: tuple[str, Dataset], train: Counter[str], counts: Counter[str], level: Level
) -> Iterator[Note]:
    """Yield notes on the labels of dev or test. train, counts: rows by label of train and of `own`."""
    name, dataset = own
    if missing := sorted(label for label in train if label not in counts):
        have = f"has no rows of {len(missing)} of the {len(train)} labels of train"
        message = f"{have}: {first_few(missing, LABELS_SHOWN)}; the metrics on {name} say nothing about them"
        yield Note("unmeasured-labels", message, dataset.source, len(missing))
    if level == "token" or name != "dev" or min(train.total(), counts.total()) < MANY_ROWS:
        return
    shares = {
        label: (train[label] / train.total(), counts[label] / counts.total()) for label in train | counts
    }
    if sum(abs(before - after) for before, after in shares.values()) / 2 > SHIFT:
        most = max(shares, key=lambda label: abs(shares[label][0] - shares[label][1]))
        before, after = shares[most]
        message = (
            f"dev has other shares of labels than train: {most} has {before:.0%} of train, {after:.0%} of dev"
        )
        yield Note("unbalanced-dev", message, dataset.source, counts.total())


def _sizes(own: tuple[str, Dataset], train: Dataset) -> Iterator[Note]:
    name, dataset = own
    rows, learnt = len(dataset.examples), len(train.examples)
    if rows > SWAPPED * learnt:
        message = f"{name} has {rows:,} rows, train only {learnt:,}; check that the files are not swapped"
        yield Note("small-train", message, dataset.source, rows)


def _beginning(example: Example) -> str:
    text = example.text
    return repr(text if len(text) <= _BEGINNING else f"{text[:_BEGINNING]}…")
