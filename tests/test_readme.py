"""The README keeps its word: its plugin is installed as a package of its own, its Python runs as printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from onetrunk.core.backbones.backbone import Backbone
    from onetrunk.core.tasks import TaskSpec

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECORDS = [
    {"text": f"the {place} was {word}", "topics": [*(["praise"] if word == "great" else []), place]}
    for place in ("room", "flight", "table")
    for word in ("great", "bad", "awful")
]


def plugin_files() -> dict[str, str]:
    """Return the files of the walk-through by name."""
    return dict(re.findall(r"<!-- plugin: (\S+) -->\n```\w+\n(.*?)```", README, flags=re.DOTALL))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the README's plugin."""
    source, target = tmp_path_factory.mktemp("plugin"), tmp_path_factory.mktemp("site")
    for name, content in plugin_files().items():
        (source / name).write_text(content, encoding="utf-8")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    return target


def test_the_plan_of_the_readme_can_be_read(tmp_path: Path) -> None:
    from onetrunk.core.training.train_plan import read_plan

    (plan,) = re.findall(r"```toml\n(# plan\.toml.*?)```", README, flags=re.DOTALL)
    (tmp_path / "plan.toml").write_text(plan)
    assert [own.task for own in read_plan(tmp_path / "plan.toml").adapters] == ["ner", "intent"]


def adapters(site: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    line = [sys.executable, "-m", "onetrunk.cli.main", *arguments]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_walk_through_has_a_module_and_its_packaging() -> None:
    assert set(plugin_files()) == {"onetrunk_topics.py", "pyproject.toml"}


def test_the_plugin_is_listed_with_its_distribution_once_installed(site: Path) -> None:
    plugins = {plugin["name"]: plugin for plugin in json.loads(adapters(site, "plugins", "--json"))}
    topics = plugins["topics"]
    assert (topics["distribution"], topics["version"], topics["error"]) == ("onetrunk-topics", "0.1.0", None)
    assert topics["tasks"] == ["topics"]


def test_the_plugin_trains_and_predicts_from_the_command_line(
    site: Path, tmp_path: Path, bert_folder: Path
) -> None:
    data = tmp_path / "topics.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8")
    files = ["--train", str(data), "--dev", str(data), "--backbone", str(bert_folder)]
    options = [
        "--epochs",
        "40",
        "--lr",
        "0.01",
        "--patience",
        "0",
        "--batch-tokens",
        "64",
        "--precision",
        "fp32",
    ]
    trained = json.loads(adapters(site, "train", "topics", *files, *options, "--json").splitlines()[-1])
    assert trained["metrics"]["f1"] > 0.9
    text = "the room was great"
    answer = adapters(site, "predict", "topics", text, "--backbone", str(bert_folder), "--json")
    assert sorted(json.loads(answer)["topics"]) == ["praise", "room"]


@pytest.fixture
def topics(site: Path, monkeypatch: pytest.MonkeyPatch) -> TaskSpec:
    """The task of the installed plugin."""
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(str(site))
    spec: TaskSpec = import_module("onetrunk_topics").TOPICS
    return spec


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"text": "good"}, "the record has no topics; give an empty list where there are none"),
        ({"text": "good", "topics": "praise"}, "expected a list of strings under 'topics', found 'praise'"),
        ({"text": "good", "topics": [1, "a"]}, "expected a list of strings under 'topics', found [1, 'a']"),
        ({"text": "good", "topics": [""]}, "expected a list of strings under 'topics', found ['']"),
        ({"topics": ["praise"]}, "expected a string under 'text', found None"),
    ],
)
def test_a_faulty_row_for_the_plugin_is_reported_with_file_and_line(
    topics: TaskSpec, tmp_path: Path, row: dict[str, Any], fault: str
) -> None:
    from onetrunk.core.data.splits import Splits
    from onetrunk.core.data.training_data import read_train_data
    from onetrunk.core.errors import DataError

    file = tmp_path / "topics.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in [*RECORDS, row]), encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(f"topics.jsonl:{len(RECORDS) + 1}: {fault}") + "$"):
        read_train_data(topics, Splits(file))


def test_the_plugin_passes_the_conformance_kit(topics: TaskSpec, tmp_path: Path) -> None:
    from onetrunk.core.testing import check_task

    check_task(topics, RECORDS * 2, folder=tmp_path)


def test_the_python_example_runs_as_printed(
    train_tiny: Callable[..., Any], bert: Backbone, bert_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from onetrunk.adapters.store.store import Store

    store = Store()
    train_tiny(store, "ner", bert, name="people")
    reviews = train_tiny(store, "sentiment", bert, name="reviews").stored
    store.alias("reviews", "prod", reviews.version)
    code = re.search(r"## From Python\n\n```python\n(.*?)```", README, flags=re.DOTALL)
    assert code is not None
    exec(code[1].replace("sentence-transformers/all-MiniLM-L6-v2", str(bert_folder)), {})
    printed = capsys.readouterr().out
    assert "people@1 {'entities':" in printed
    assert "reviews@1 {'label':" in printed


def test_the_training_example_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"text": f"the {thing} was {word}", "label": label}
        for thing in ("room", "flight", "table", "film", "book")
        for word, label in (
            ("great", "positive"),
            ("good", "positive"),
            ("bad", "negative"),
            ("awful", "negative"),
        )
    ]
    Path("reviews.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    code = re.search(r"### How do I train from Python\?\n\n```python\n(.*?)```", README, flags=re.DOTALL)
    assert code is not None
    exec(code[1], {})
    measured, answer = capsys.readouterr().out.splitlines()
    assert re.match(r"\d\.\d+ \(Note\(kind='held-out'", measured)
    assert re.match(r"{'label': '(positive|negative)', 'score': 0\.", answer)
