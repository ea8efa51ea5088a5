"""Reads `serve.toml`, the configuration file of `adapters serve`. docs/serving.md has an example."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from onetrunk.adapters.format.files import FileFault
from onetrunk.adapters.format.records import TOML_STYLE, RecordFault, Text, closed, load_toml, matching, read
from onetrunk.core.errors import UsageError
from onetrunk.core.serving.engine.limits import Limits

NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}"
"""Pattern of a served name."""
_NAME_IN_WORDS = "up to 100 letters, digits and . _ @ -, a letter or digit first"
_Name: TypeAlias = Annotated[str, matching(NAME, _NAME_IN_WORDS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions:
    """The limits that have no command-line option; `Limits` describes them. None: the default of the device."""

    inputs: int | None = None
    adapters: int | None = None
    characters: int | None = None
    input_tokens: int | None = None
    workers: int | None = None
    queue_seconds: float | None = None
    body_bytes: int | None = None
    response_bytes: int | None = None
    loaded: int | None = None
    load_seconds: float | None = None
    request_seconds: float | None = None


@closed
@dataclass(frozen=True, slots=True)
class ServeConfig:
    """The configuration of `adapters serve`.

    backbone: Hub id or folder; None: the backbone of the adapters.
    max_batch_tokens, max_wait_ms, max_queue: `batch_tokens`, `wait_ms` and `queue_tokens` of `Limits`; None: the
        default of the device.
    token_file: path; None: no tokens are required.
    cors_origins: origins of web pages that may call the service from a browser, such as `https://example.org`.
    adapters: references by served name; None: all adapters of the store.
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
    cors_origins: tuple[str, ...] = ()
    adapters: Mapping[_Name, Text] | None = None
    limits: LimitOptions = LimitOptions()

    @classmethod
    def read(cls, file: Path) -> ServeConfig:
        """Read a file. Raises UsageError, which lists every fault."""
        try:
            config = read(cls, load_toml(file), TOML_STYLE)
        except (FileFault, RecordFault) as error:
            raise UsageError(f"{file}: {error}") from error
        found = None if config.token_file is None else str(file.parent / config.token_file)
        return replace(config, token_file=found)

    def chosen(self, **options: Any) -> ServeConfig:
        """Return a copy in which `options` replace the values, unless they are None."""
        return replace(self, **{name: value for name, value in options.items() if value is not None})

    def limits_on(self, device: str, threads: int = 1) -> Limits:
        """Return the limits for a device type.

        device: `cpu` or `cuda`.
        threads: number of CPU threads that the device threads share.
        Raises UsageError if a limit is out of range.
        """
        options = asdict(self.limits) | {
            "batch_tokens": self.max_batch_tokens,
            "queue_tokens": self.max_queue,
            "wait_ms": self.max_wait_ms,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return replace(Limits.for_device(device, threads), **given)


def check_name(name: str) -> str:
    """Return `name`. Raises UsageError if it is not a valid served name."""
    if not re.fullmatch(NAME, name):
        raise UsageError(f"invalid adapter name {name[:100]!r}; expected {_NAME_IN_WORDS}")
    return name
