"""Arguments of the application in Ray Serve's configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from onetrunk.core.errors import UsageError
from onetrunk.core.serving.cluster.ray_args import read_arguments


@pytest.mark.parametrize(
    ("toml", "args", "why"),
    [
        ("", {"config": "serve.toml"}, "config is 'serve.toml'; expected an absolute path"),
        ("", {"residents": 9}, "unknown argument 'residents'; expected config and max_loaded_versions"),
        ("", {"max_loaded_versions": 63}, "max_loaded_versions is 63; expected at least 64"),
        ("port = 80", {}, "has host or port; set them in http_options"),
        ("no = 1", {}, "has the unknown key 'no'"),
    ],
)
def test_invalid_arguments_are_refused(tmp_path: Path, toml: str, args: dict[str, Any], why: str) -> None:
    (tmp_path / "serve.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(UsageError, match=why):
        read_arguments({"config": str(tmp_path / "serve.toml"), **args})
