"""The arguments of the application, which Ray's configuration file sets under `args`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onetrunk.core.errors import UsageError
from onetrunk.core.serving.engine.config import ServeConfig

MAX_LOADED_VERSIONS = 256
"""Default number of adapter versions that a replica keeps loaded."""
_ARGUMENTS = ("config", "max_loaded_versions")
_DEFAULTS = ServeConfig()


def read_arguments(args: Mapping[str, Any]) -> tuple[ServeConfig, int]:
    """Return the configuration of the service, and the number of versions that a replica keeps loaded.

    Raises UsageError for an unknown or invalid argument, and for an invalid file.
    """
    if unknown := [name for name in args if name not in _ARGUMENTS]:
        raise UsageError(f"unknown argument {unknown[0]!r}; expected {' and '.join(_ARGUMENTS)}")
    file, max_loaded = args.get("config"), args.get("max_loaded_versions", MAX_LOADED_VERSIONS)
    if file is not None and not Path(file).is_absolute():
        raise UsageError(
            f"config is {file!r}; expected an absolute path, because Ray's processes run in other folders"
        )
    config = ServeConfig() if file is None else ServeConfig.read(Path(file))
    if (config.host, config.port) != (_DEFAULTS.host, _DEFAULTS.port):
        raise UsageError(f"{file}: has host or port; set them in http_options of Ray's configuration file")
    least = config.limits_on("cpu").adapters
    if not isinstance(max_loaded, int) or max_loaded < least:
        raise UsageError(
            f"max_loaded_versions is {max_loaded!r}; expected at least {least}, as limits.adapters"
        )
    return config, max_loaded
