"""Tracebacks for the terminal and for bug reports: without tokens, and without control characters."""

from __future__ import annotations

import os
import re
import traceback

from onetrunk.cli.output import printable

_HIDDEN = "[hidden]"
_PATTERNS = (
    re.compile(r"\bhf_[A-Za-z0-9_]{8,}"),
    re.compile(r"(?<=://)[^\s/@'\"]+(?=@)"),  # user and password of a URL
    re.compile(r"(?i)(?<=bearer )[^\s'\",;]+"),
    re.compile(r"(?i)(?<=\btoken[=:])\s*['\"]?[^\s'\",;)]{8,}"),
)
_SECRET_NAMES = re.compile(r"(?i)token|secret|password|api_?key")
_MIN_CHARACTERS = 8
"""Shorter values of variables are not hidden: they could be ordinary words."""


def safe_traceback(error: BaseException) -> str:
    """Return the traceback of `error` without tokens, and with control characters as escapes."""
    text = "".join(traceback.format_exception(error)).rstrip("\n")
    secrets = {
        value
        for name, value in os.environ.items()
        if _SECRET_NAMES.search(name) and len(value) >= _MIN_CHARACTERS and not os.path.exists(value)
    }
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(_HIDDEN, text)
    return printable(text, keep="\n\t")
