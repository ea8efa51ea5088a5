"""The labels of an adapter that was not made here: given, or as its own files or its base model say them."""

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
"""A transformers configuration, which some people put beside their adapter; it names the labels."""

_log = logging.getLogger(__name__)
_MAX_CARD = 2**20
_MAX_HEAD = 2**16
_ANCHOR = re.compile(r"(?<!\w)&\S")
"""With anchors a few lines of YAML can stand for more than any memory holds."""
_PLACEHOLDER = re.compile(r"LABEL_\d+")


def find_labels(folder: Path, spec: TaskSpec, count: int, given: Sequence[str] | None, base: Any) -> Labels:
    """Return the `count` labels of the adapter in `folder`, in the order of its logits.

    given: by the user, else config.json beside the adapter is asked, then the metadata of its card, then `base`,
    the configuration of the backbone. Raises UsageError where nobody says them, for labels that are none or are not
    as many as the head has rows, and for others than those of a task that fixes them.
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
        f"the adapter does not say what its {count} labels are: give --labels with all of them, in the order of "
        "its logits, with commas between"
    )


def _sources(folder: Path, base: Any) -> Iterator[tuple[str, Any]]:
    """Yield what may name the labels, with the name of each place."""
    if (folder / MODEL_CONFIG).exists():
        yield MODEL_CONFIG, read_object(folder, MODEL_CONFIG).get("id2label")
    card = _metadata(folder)
    yield f"the metadata of {CARD}", card.get("id2label")
    yield f"the metadata of {CARD}", card.get("labels")
    yield "the backbone's config.json", getattr(base, "id2label", None)


def _metadata(folder: Path) -> Mapping[str, Any]:
    """Return the metadata on top of the card, {} where there is none that can be read."""
    if not (folder / CARD).exists():
        return {}
    try:
        text = read_regular(folder / CARD, _MAX_CARD).decode("utf-8")
    except FileFault as error:
        raise ArtifactError(folder, f"{CARD} {error}") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(folder, f"{CARD} is not UTF-8 at byte {error.start}") from error
    head, closed, _ = text.partition("\n---")
    if not text.startswith("---") or not closed or len(head) > _MAX_HEAD or _ANCHOR.search(head):
        return {}
    import yaml

    try:
        found = yaml.safe_load(head.removeprefix("---"))
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:  # a stranger wrote it
        _log.warning(
            "the metadata of %s cannot be read, no labels are taken from it: %s", folder / CARD, error
        )
        return {}
    return found if isinstance(found, Mapping) else {}


def _listed(table: Any) -> tuple[str, ...]:
    """Return the labels of a list, or of a table from index to label; () for what is neither."""
    if isinstance(table, Mapping):
        keys = [str(i) for i in range(len(table))]
        by_key = {str(key): label for key, label in table.items()}
        table = [by_key[key] for key in keys] if set(keys) == by_key.keys() else []
    if not isinstance(table, Sequence) or isinstance(table, str):
        return ()
    return tuple(table) if all(isinstance(label, str) for label in table) else ()


def _checked(where: str, labels: Labels, spec: TaskSpec, count: int) -> Labels:
    if len(labels) != count:
        raise UsageError(f"{where} has {len(labels)} labels, the adapter's head is for {count}")
    if faults := list(label_faults(labels)):
        raise UsageError(f"{where}: {'; '.join(faults)}")
    if not callable(spec.labels) and labels != spec.labels:
        raise UsageError(
            f"{where} has {', '.join(labels)[:200]}, but the labels of task {spec.name!r} are fixed: "
            f"{', '.join(spec.labels)[:200]}"
        )
    return labels
