"""Calls of a task's functions, so that what goes wrong in one names the task, the function and the line of code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from onetrunk.adapters.format import strict_json
from onetrunk.core.errors import OneTrunkError, TaskSpecError
from onetrunk.core.tasks.error_reason import reason
from onetrunk.core.tasks.spec import Example, JSONObject, TaskSpec


@contextmanager
def calling(
    spec: TaskSpec, name: str, where: str = "", *, passing: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn what the function `name` of a task raises within into TaskSpecError, with the exception as its cause.

    where: `file:line` of the record it is called for.  passing: what the contract lets it raise for the user, which
    is let through, as are errors of ours.
    """
    try:
        yield
    except OneTrunkError:
        raise
    except passing:
        raise
    except Exception as error:  # whatever a plugin's bug is
        place = f" for the record at {where}" if where else ""
        raise TaskSpecError(spec.name, [f"{name} raises {reason(error, spec.name)}{place}"]) from error


def json_of(spec: TaskSpec, name: str, *arguments: Any) -> JSONObject:
    """Return the JSON object that the function `name` of a task gives. Raises TaskSpecError where it gives none."""
    with calling(spec, name):
        value = getattr(spec, name)(*arguments)
    if faults := [f"{name} {fault}" for fault in json_faults(value)]:
        raise TaskSpecError(spec.name, faults)
    return dict(value)


def json_faults(value: object) -> Iterator[str]:
    """Yield what keeps `value` from being a JSON object, each with the key that it stands under."""
    if not isinstance(value, dict):
        yield f"gives {value!r}, expected a JSON object"
    else:
        for key, each in value.items():
            yield from (f"gives what {fault}, under {key!r}" for fault in strict_json.faults({key: each}))


def notes_on(spec: TaskSpec, examples: Sequence[Example]) -> tuple[str, ...]:
    """Return what the task has to say of a data set. Raises TaskSpecError where that are no strings."""
    if spec.notes is None:
        return ()
    with calling(spec, "notes"):
        notes = tuple(spec.notes(examples))
    if odd := [note for note in notes if not isinstance(note, str)]:
        raise TaskSpecError(spec.name, [f"notes gives {odd[0]!r}, expected strings"])
    return notes
