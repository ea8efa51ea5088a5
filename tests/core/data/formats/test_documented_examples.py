"""The files that docs/data.md shows are read as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from onetrunk.core.data.dataset import load_dataset
from onetrunk.core.data.readers import READERS, SUFFIXES, read_records
from onetrunk.plugins import intent, ner

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "data.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL))


@pytest.mark.parametrize("name", FILES)
def test_each_file_gives_its_text_entities_and_label(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8")
    (example,) = load_dataset(ner.SPEC, path).examples
    assert (example.text, example.target) == ("Ada flew to Paris", ("PER", "LOC"))
    assert example.spans == ((0, 3), (12, 17))
    (source,) = read_records(path)
    if "label" in source.record:
        assert load_dataset(intent.SPEC, path).examples[0].target == "travel"


def test_every_tool_has_an_example() -> None:
    tools = {"doccano", "label", "prodigy", "spacy", "argilla1", "argilla2", "nlu", "ud"}
    assert {name.partition(".")[0].partition("_")[0] for name in FILES} == tools


def test_the_table_has_every_format_and_suffix() -> None:
    rows = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    assert {name for name in (*READERS, *SUFFIXES) if f"`{name}`" not in rows} == set()


def test_the_python_of_the_page_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert getattr(names["data"], "labels", None) == ("bye", "hello")
