"""Describe the exception of a plugin in one line, with the line of the plugin's code that raised it."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path
from traceback import walk_tb

import pluggy

from onetrunk.core import errors

_NOT_A_PLUGINS = (
    "<",
    contextlib.__file__,
    *(str(Path(file).parent) + os.sep for file in (errors.__file__, pluggy.__file__, importlib.__file__)),
)
"""How the files of those frames begin that stand between a host and a plugin, and explain nothing."""

_LIBRARIES = ("torch", "numpy", "transformers")
"""What plugins call; a line of theirs does not tell an author where to look."""


def reason(error: BaseException, place: str) -> str:
    """Return `error` as one line, with the innermost line of a plugin's code that raised it, else `place`."""
    if isinstance(error, SyntaxError) and error.filename:
        return _one_line(error, error.msg, f"{error.filename}:{error.lineno}")
    loaded = (getattr(sys.modules.get(name), "__file__", None) for name in _LIBRARIES)
    libraries = tuple(os.path.dirname(file) + os.sep for file in loaded if file)
    for frame, line in walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not file.startswith(_NOT_A_PLUGINS + libraries):
            place = f"{file}:{line}"
    return _one_line(error, _message(error), place)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as fault:  # a stranger's __str__; the report must come out all the same
        return f"its message cannot be shown ({type(fault).__name__})"


def _one_line(error: BaseException, message: str, place: str) -> str:
    return " ".join(f"{type(error).__name__}: {message} ({place})".split())
