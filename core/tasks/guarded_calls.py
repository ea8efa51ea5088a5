"""Calls of a task's functions, so that what goes wrong in one names the task, the function and the line of code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

from onetrunk.adapters.format import strict_json
from onetrunk.core.errors import OneTrunkError, TaskSpecError
from onetrunk.core.tasks.error_reason import reason
from onetrunk.core.tasks.spec import Example, JSONObject, Labels, Targets, TaskSpec

_LARGEST = 3.4028234e38
"""About the largest number that float32 holds, the type in which a loss is given floats."""

_NAMES = {int: "an int", float: "a float"}


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


def targets_of(spec: TaskSpec, example: Example, labels: Labels, before: Targets = ()) -> Targets:
    """Return the targets of `example` as numbers of Python: all integers, or all finite floats.

    before: those of an example of the same data, which are of the kind that these must be.
    Raises ValueError for the user: by the task, and for what is no target; TaskSpecError for what else it raises.
    """
    with calling(spec, "targets", example.where, passing=(ValueError,)):
        given = tuple(spec.targets(example, labels))
    targets = tuple(map(_number, given))
    for target in targets:
        kind = type((before or targets)[0])
        if type(target) is not kind:
            raise ValueError(
                f"the target {target!r} is {_NAMES[type(target)]} where others are {kind.__name__}s; expected all "
                "integers or all floats"
            )
    return targets


def _number(value: object) -> int | float:
    """Return a target as an int or a float. Raises ValueError for what is neither, or no finite float32."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) <= _LARGEST:
        return float(value)
    raise ValueError(f"the target {value!r} is neither an integer nor a finite float")


def notes_on(spec: TaskSpec, examples: Sequence[Example]) -> tuple[str, ...]:
    """Return what the task has to say of a data set. Raises TaskSpecError where that are no strings."""
    if spec.notes is None:
        return ()
    with calling(spec, "notes"):
        notes = tuple(spec.notes(examples))
    if odd := [note for note in notes if not isinstance(note, str)]:
        raise TaskSpecError(spec.name, [f"notes gives {odd[0]!r}, expected strings"])
    return notes
