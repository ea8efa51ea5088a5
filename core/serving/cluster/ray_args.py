"""The arguments of the application, as ray.yaml has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onetrunk.core.errors import UsageError
from onetrunk.core.serving.engine.config import ServeConfig

RESIDENTS = 256
"""Versions that a replica keeps ready, by default."""
_ARGUMENTS = ("config", "residents")
_UNSET = ServeConfig()


def read_arguments(args: Mapping[str, Any]) -> tuple[ServeConfig, int]:
    """Return what serve.toml says, and how many versions a replica keeps ready. Raises UsageError."""
    if unknown := [name for name in args if name not in _ARGUMENTS]:
        raise UsageError(f"unknown argument {unknown[0]!r}; expected {' and '.join(_ARGUMENTS)}")
    file, residents = args.get("config"), args.get("residents", RESIDENTS)
    if file is not None and not Path(file).is_absolute():
        raise UsageError(
            f"config is {file!r}; expected an absolute path, as Ray's processes work in other folders"
        )
    config = ServeConfig() if file is None else ServeConfig.read(Path(file))
    if (config.host, config.port) != (_UNSET.host, _UNSET.port):
        raise UsageError(f"{file}: Ray listens; set host and port in http_options of its own file")
    least = config.limits_on("cpu").adapters
    if not isinstance(residents, int) or residents < least:
        raise UsageError(
            f"residents is {residents!r}; a text may be asked of {least} adapters, so at least that"
        )
    return config, residents
