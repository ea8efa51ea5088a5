"""docs/serving.md agrees with the code: problems, metrics and the configuration."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

from onetrunk.core.serving.engine.config import ServeConfig
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.http.problems import PROBLEMS
from onetrunk.core.serving.http.stream import GROUP_LINES, MAX_GROUPS
from tests.core.serving.conftest import Running

TEXT = (Path(__file__).parents[4] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_every_problem_is_named_with_its_status() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| `") and "onetrunk_" not in line]
    named = {
        kind: row.split("|")[2] for row in rows for kind in re.findall(r"`([a-z-]+)`", row.split("|")[1])
    }
    assert set(named) == set(PROBLEMS)
    assert {kind for kind in named if str(PROBLEMS[kind][0]) not in named[kind]} == set()


def test_every_metric_is_named_and_no_other(service: Running) -> None:
    page = service.client.get("/metrics").text
    types = dict(re.findall(r"^# TYPE (onetrunk_\w+) (\w+)$", page, flags=re.MULTILINE))
    known = {name for name in types if not name.endswith("_created")}
    assert set(re.findall(r"`(onetrunk_\w+)`", TEXT)) == known


def test_the_configuration_is_read_and_its_limits_are_the_defaults(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(# serve\.toml.*?)```", TEXT, flags=re.DOTALL)
    file = tmp_path / "serve.toml"
    file.write_text(example, encoding="utf-8")
    defaults = Limits.for_device("cpu", threads=2)
    written = {
        name: value for name, value in asdict(ServeConfig.read(file).limits).items() if value is not None
    }
    assert {name: getattr(defaults, name) for name in written} == written


def test_the_documented_lines_of_a_stream_under_way_are_those_of_the_code() -> None:
    (count,) = re.findall(r"works on about (\d+) lines at a time", TEXT)
    assert abs((MAX_GROUPS + 1) * GROUP_LINES - int(count)) <= 10
