"""One-line description of an exception that a plugin raised, with the line of its code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path
from traceback import walk_tb

import pluggy

from onetrunk.core import errors

_CORE_FILES = (
    "<",
    contextlib.__file__,
    *(str(Path(file).parent) + os.sep for file in (errors.__file__, pluggy.__file__, importlib.__file__)),
)
"""Prefixes of the files whose frames lie between the host and the plugin; they do not explain the error."""

_LIBRARIES = ("torch", "numpy", "transformers")
"""Libraries that plugins call; their frames do not show the author where to look."""


def reason(error: BaseException, place: str) -> str:
    """Return `error` as one line that ends with the innermost line of plugin code in its traceback.

    place: used if the traceback has no plugin code.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return _one_line(error, error.msg, f"{error.filename}:{error.lineno}")
    loaded = (getattr(sys.modules.get(name), "__file__", None) for name in _LIBRARIES)
    libraries = tuple(os.path.dirname(file) + os.sep for file in loaded if file)
    for frame, line in walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not file.startswith(_CORE_FILES + libraries):
            place = f"{file}:{line}"
    return _one_line(error, _message(error), place)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as fault:  # __str__ of a plugin can raise; the report must still be made
        return f"its message cannot be shown: __str__ raises {type(fault).__name__}"


def _one_line(error: BaseException, message: str, place: str) -> str:
    return " ".join(f"{type(error).__name__}: {message} ({place})".split())
