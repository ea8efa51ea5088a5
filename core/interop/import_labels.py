"""Finds the labels of a plain PEFT adapter: those that the user gives, or those in its files or in its backbone."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from onetrunk.adapters.errors import ArtifactError
from onetrunk.adapters.format.artifact import CARD, read_object
from onetrunk.adapters.format.files import FileFault, read_regular
from onetrunk.core.errors import UsageError
from onetrunk.core.tasks import Labels, TaskSpec, label_faults

MODEL_CONFIG = "config.json"
"""The configuration of a transformers model, which can be in the folder of an adapter and lists the labels."""

_log = logging.getLogger(__name__)
_MAX_CARD, _MAX_METADATA = 2**20, 2**16
"""The largest card, in bytes, and the largest metadata of a card, in characters, that are read."""
_ANCHOR = re.compile(r"(?<!\w)&\S")
"""A YAML anchor. With anchors, a few lines can expand to more than fits into memory, so they are not read."""
_PLACEHOLDER = re.compile(r"LABEL_\d+")
"""A label that transformers makes up if the user has given none."""


def find_labels(folder: Path, spec: TaskSpec, count: int, given: Sequence[str] | None, base: Any) -> Labels:
    """Return the labels of the adapter in `folder`, in the order of its logits.

    count: the number of labels that the head has.
    given: the labels that the user gives. If None, the labels are looked up in config.json in `folder`, then in the
        metadata of the card, then in `base`, and last in the task, if its labels are fixed.
    base: transformers' configuration of the backbone.

    Raises UsageError if the labels are not found, are not valid, are not `count`, or differ from the fixed labels
    of the task.
    """
    if given is not None:
        return _checked("--labels", tuple(given), spec, count)
    for where, table in _sources(folder, base):
        labels = _listed(table)
        if len(labels) == count and not all(map(_PLACEHOLDER.fullmatch, labels)):
            return _checked(where, labels, spec, count)
    if not callable(spec.labels) and len(spec.labels) == count:
        return spec.labels
    raise UsageError(
        f"the files of the adapter do not list its {count} labels; give all of them with --labels, in the order "
        "of the logits, separated by commas"
    )


def _sources(folder: Path, base: Any) -> Iterator[tuple[str, Any]]:
    """Yield values that may list the labels, each with a description of where it was found."""
    if (folder / MODEL_CONFIG).exists():
        yield MODEL_CONFIG, read_object(folder, MODEL_CONFIG).get("id2label")
    card = _metadata(folder)
    yield f"the metadata of {CARD}", card.get("id2label")
    yield f"the metadata of {CARD}", card.get("labels")
    yield "the backbone's config.json", getattr(base, "id2label", None)


def _metadata(folder: Path) -> Mapping[str, Any]:
    """Return the metadata at the top of the card; {} if there is none, or if its YAML cannot be read.

    Raises ArtifactError if the card itself cannot be read.
    """
    if not (folder / CARD).exists():
        return {}
    try:
        text = read_regular(folder / CARD, _MAX_CARD).decode("utf-8")
    except FileFault as error:
        raise ArtifactError(folder, f"{CARD} {error}") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(folder, f"{CARD} is not UTF-8 at byte {error.start}") from error
    head, closed, _ = text.partition("\n---")
    if not text.startswith("---") or not closed or len(head) > _MAX_METADATA or _ANCHOR.search(head):
        return {}
    import yaml

    try:
        found = yaml.safe_load(head.removeprefix("---"))
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:  # untrusted YAML
        _log.warning("the metadata of %s is ignored, because it cannot be read: %s", folder / CARD, error)
        return {}
    return found if isinstance(found, Mapping) else {}


def _listed(table: Any) -> tuple[str, ...]:
    """Return the labels in a list, or in an object {index: label}; () for any other value."""
    if isinstance(table, Mapping):
        keys = [str(i) for i in range(len(table))]
        by_key = {str(key): label for key, label in table.items()}
        table = [by_key[key] for key in keys] if set(keys) == by_key.keys() else []
    if not isinstance(table, Sequence) or isinstance(table, str):
        return ()
    return tuple(table) if all(isinstance(label, str) for label in table) else ()


def _checked(where: str, labels: Labels, spec: TaskSpec, count: int) -> Labels:
    if len(labels) != count:
        raise UsageError(f"{where} has {len(labels)} labels, but the adapter's head has {count}")
    if faults := list(label_faults(labels)):
        raise UsageError(f"{where}: {'; '.join(faults)}")
    if not callable(spec.labels) and labels != spec.labels:
        raise UsageError(
            f"{where} has {', '.join(labels)[:200]}, but the labels of task {spec.name!r} are fixed: "
            f"{', '.join(spec.labels)[:200]}"
        )
    return labels
