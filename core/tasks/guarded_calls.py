"""Calls of plugin code whose errors name the task, the function and the line of the plugin."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from traceback import walk_tb
from typing import Any, Literal

import pluggy

from onetrunk.adapters.format import strict_json
from onetrunk.core import errors
from onetrunk.core.errors import OneTrunkError, TaskSpecError
from onetrunk.core.tasks.records import Example, JSONObject, Labels, Targets, TaskNote
from onetrunk.core.tasks.spec import TaskSpec

_LARGEST = 3.4028234e38
"""The largest float32, the type of float targets."""
_LARGEST_INTEGER = 2**63 - 1
_NAMES = {int: "an int", float: "a float"}
_CORE_FILES = (
    "<",
    contextlib.__file__,
    *(str(Path(file).parent) + os.sep for file in (errors.__file__, pluggy.__file__, importlib.__file__)),
)
"""Prefixes of the paths of files that call plugins. An error message names the file of the plugin instead."""
_LIBRARIES = ("torch", "numpy", "transformers")
"""Libraries that plugins call. An error message names the file of the plugin instead of theirs."""


@contextlib.contextmanager
def calling(
    spec: TaskSpec, name: str, where: str = "", *, passing: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn an exception of the block, which calls the task's function `name`, into TaskSpecError.

    where: `file:line` of the record.
    passing: exceptions that the contract allows. They and OneTrunkError are raised unchanged.
    """
    try:
        yield
    except OneTrunkError:
        raise
    except passing:
        raise
    except Exception as error:  # a plugin can raise anything
        record = f" for the record at {where}" if where else ""
        raise TaskSpecError(spec.name, [f"{name} raises {reason(error, spec.name)}{record}"]) from error


def json_of(spec: TaskSpec, name: str, *arguments: Any) -> JSONObject:
    """Call the task's function `name` and return its JSON object. Raises TaskSpecError for any other result."""
    with calling(spec, name):
        value = getattr(spec, name)(*arguments)
    if faults := [f"{name} {fault}" for fault in json_faults(value)]:
        raise TaskSpecError(spec.name, faults)
    return dict(value)


def json_faults(value: object) -> Iterator[str]:
    """Yield a message for each part of `value` that is not JSON, with its key."""
    if not isinstance(value, dict):
        yield f"returns {value!r}, expected a JSON object"
        return
    for key, each in value.items():
        for fault in strict_json.faults({key: each}):
            yield f"returns a value that {fault}, under {key!r}"


def targets_of(spec: TaskSpec, example: Example, labels: Labels, before: Targets = ()) -> Targets:
    """Return the targets of `example` as Python numbers: all int, or all finite float.

    before: targets of another example of the same data; both must have the same type.
    Raises ValueError, with a message for the user, if the task raises it or a target is invalid; TaskSpecError for
    any other exception of the task.
    """
    with calling(spec, "targets", example.where, passing=(ValueError,)):
        given = tuple(spec.targets(example, labels))
    targets = tuple(map(_number, given))
    for target in targets:
        kind = type((before or targets)[0])
        if type(target) is not kind:
            raise ValueError(
                f"the target {target!r} is {_NAMES[type(target)]}, but other targets are {kind.__name__}s; "
                "expected all integers or all floats"
            )
    return targets


def _number(value: object) -> int | float:
    """Return a target as int or float. Raises ValueError unless it is a number in the range of int64 or float32."""
    if isinstance(value, Integral):
        if not isinstance(value, bool) and abs(int(value)) <= _LARGEST_INTEGER:
            return int(value)
    elif isinstance(value, Real) and abs(float(value)) <= _LARGEST:
        return float(value)
    raise ValueError(f"the target {value!r} is neither an integer of 64 bits nor a finite float")


def notes_on(
    spec: TaskSpec, examples: Sequence[Example], name: Literal["notes", "encoded_notes"] = "notes"
) -> tuple[TaskNote, ...]:
    """Return the task's notes on a data set; a string becomes a note of the kind `task`.

    name: the function of the task. Raises TaskSpecError unless it returns strings and TaskNotes.
    """
    function = getattr(spec, name)
    if function is None:
        return ()
    with calling(spec, name):
        notes = tuple(function(examples))
    if odd := [note for note in notes if not isinstance(note, str | TaskNote)]:
        raise TaskSpecError(spec.name, [f"{name} returns {odd[0]!r}, expected strings or TaskNotes"])
    return tuple(TaskNote("task", note) if isinstance(note, str) else note for note in notes)


def configured(spec: TaskSpec, options: Mapping[str, str]) -> TaskSpec:
    """Return the task with the options of the user. Raises UsageError for an invalid option."""
    if not options:
        return spec
    if spec.configure is None:
        raise errors.UsageError(f"task {spec.name!r} has no options; leave out {', '.join(options)}")
    try:
        with calling(spec, "configure", passing=(ValueError,)):
            return spec.configure(options)
    except ValueError as error:
        raise errors.UsageError(f"task {spec.name!r}: {error}") from error


def reason(error: BaseException, location: str) -> str:
    """Return `error` as one line that ends with the innermost line of plugin code in its traceback.

    location: the end of the line if the traceback has no plugin code.
    """
    loaded = (getattr(sys.modules.get(name), "__file__", None) for name in _LIBRARIES)
    libraries = tuple(os.path.dirname(file) + os.sep for file in loaded if file)
    for frame, line in walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not file.startswith(_CORE_FILES + libraries):
            location = f"{file}:{line}"
    try:
        message = str(error)
    except Exception as fault:  # __str__ of a plugin's exception can raise
        message = f"its message cannot be shown: __str__ raises {type(fault).__name__}"
    if isinstance(error, SyntaxError) and error.filename:
        message, location = error.msg, f"{error.filename}:{error.lineno}"
    return " ".join(f"{type(error).__name__}: {message} ({location})".split())
