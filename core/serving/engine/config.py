"""`serve.toml`: the options of `adapters serve`, and the limits that have no option.

host = "127.0.0.1"
port = 8000
backbone = "sentence-transformers/all-MiniLM-L6-v2"
device = "auto"
precision = "auto"
max_batch_tokens = 256
max_wait_ms = 1.0
max_queue = 65536
token_file = "tokens.toml"   # found from where this file lies

[adapters]                   # name = "reference"
people = "ner@prod"

[limits]
inputs = 256
adapters = 64
characters = 32768
body_bytes = 8388608
request_seconds = 30.0
queue_seconds = 0.25         # that what waits takes at the measured speed
workers = 2                  # batches at the same time
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onetrunk.core.errors import UsageError
from onetrunk.core.serving.engine.limits import Limits

NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}"
"""What an adapter can serve as."""
_KINDS: Mapping[str, tuple[type, ...]] = {
    "host": (str,),
    "port": (int,),
    "backbone": (str,),
    "device": (str,),
    "precision": (str,),
    "max_batch_tokens": (int,),
    "max_wait_ms": (int, float),
    "max_queue": (int,),
    "token_file": (str,),
    "adapters": (dict,),
    "limits": (dict,),
}
_LIMITS: Mapping[str, tuple[type, ...]] = {
    "inputs": (int,),
    "adapters": (int,),
    "characters": (int,),
    "input_tokens": (int,),
    "workers": (int,),
    "queue_seconds": (int, float),
    "body_bytes": (int,),
    "request_seconds": (int, float),
}
_WORDS: Mapping[tuple[type, ...], str] = {
    (str,): "a string",
    (int,): "a whole number",
    (int, float): "a number",
    (dict,): "a table",
}


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """What `adapters serve` is told. None: the default of the device; adapters: references by name; None: all.

    limits: those that have no option, by their name in `Limits`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    backbone: str | None = None
    device: str = "auto"
    precision: str = "auto"
    max_batch_tokens: int | None = None
    max_wait_ms: float | None = None
    max_queue: int | None = None
    token_file: str | None = None
    adapters: Mapping[str, str] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> ServeConfig:
        """Read a file. Raises UsageError that names the file and every fault."""
        return cls(**_Reader(file).values())

    def chosen(self, **options: Any) -> ServeConfig:
        """Return these settings with those `options` that are not None in their place."""
        return replace(self, **{name: value for name, value in options.items() if value is not None})

    def limits_on(self, device: str, threads: int = 1) -> Limits:
        """Return the limits on a `device` of this type (cpu, cuda), and `threads` of a CPU. Raises UsageError."""
        return Limits.on(
            device,
            threads,
            batch_tokens=self.max_batch_tokens,
            queue_tokens=self.max_queue,
            wait_ms=self.max_wait_ms,
            **self.limits,
        )


def check_name(name: str) -> str:
    """Return `name` if an adapter can serve as it. Raises UsageError."""
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"an adapter cannot serve as {name[:100]!r}; expected up to 100 letters, digits and . _ @ -, "
            "a letter or digit first"
        )
    return name


class _Reader:
    """Reads a file; every fault is found before any is told."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._faults: list[str] = []

    def values(self) -> dict[str, Any]:
        content = self._checked(self._content(), _KINDS, "")
        if "limits" in content:
            content["limits"] = self._checked(content["limits"], _LIMITS, "limits.")
        for name, reference in content.get("adapters", {}).items():
            if not isinstance(reference, str) or not reference:
                self._faults.append(f"adapters.{name} must be a reference such as ner@prod")
            elif not re.fullmatch(NAME, name):
                self._faults.append(f"adapters: {name!r} is no name to serve as; expected {NAME}")
        if self._faults:
            raise UsageError(f"{self._file}: {'; '.join(self._faults)}")
        if "token_file" in content:
            content["token_file"] = str(self._file.parent / content["token_file"])
        return content

    def _content(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self._file.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"{self._file}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{self._file}: is not UTF-8: {error.reason} at byte {error.start}") from error
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{self._file}: is not TOML: {error}") from error

    def _checked(
        self, table: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]], at: str
    ) -> dict[str, Any]:
        """Return those entries of a table that are as they should be, and note the others."""
        sound: dict[str, Any] = {}
        for key, value in table.items():
            if key not in kinds:
                self._faults.append(f"unknown key {at}{key}; known: {', '.join(kinds)}")
            elif type(value) not in kinds[key]:
                self._faults.append(f"{at}{key} must be {_WORDS[kinds[key]]}, found {value!r}")
            else:
                sound[key] = value
        return sound
