"""`content_sha256`: the hash depends only on the content of the examples."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from onetrunk.core.data.dataset import content_sha256, load_dataset
from onetrunk.core.errors import PluginError
from onetrunk.core.tasks import Example
from tests.core.data.sample_tasks import TOPIC, WORDS, jsonl, write


def test_the_hash_does_not_depend_on_the_file_format(tmp_path: Path) -> None:
    rows = [{"text": 'a, "b"', "label": "x"}, {"label": "y", "text": "é\n"}]
    files = [
        jsonl(tmp_path / "a.jsonl", rows),
        write(tmp_path / "b.json", json.dumps(rows, indent=1, ensure_ascii=False)),
        write(tmp_path / "c.csv", 'label,text\r\nx,"a, ""b"""\r\n\r\ny,"é\n"\r\n'),
    ]
    assert len({load_dataset(TOPIC, file).sha256 for file in files}) == 1


def test_conll_and_jsonl_of_the_same_sentences_have_one_hash(tmp_path: Path) -> None:
    conll = write(tmp_path / "a.conll", "Ada\tI-p\nL.\tI-p\n")
    words = jsonl(tmp_path / "a.jsonl", [{"words": ["Ada", "L."], "tags": ["B-p", "I-p"]}])
    assert load_dataset(WORDS, conll).sha256 == load_dataset(WORDS, words).sha256


@pytest.mark.parametrize(
    "other",
    [
        [Example("b", "x"), Example("a", "x")],
        [Example("a", "x")],
        [Example("a", "x"), Example("b", "y")],
        [Example("a", "x"), Example("b", None)],
        [Example("a", "x"), Example("b", "x", ((0, 1),))],
    ],
)
def test_other_content_has_another_hash(other: list[Example]) -> None:
    assert content_sha256(other) != content_sha256([Example("a", "x"), Example("b", "x")])


def test_the_hash_is_the_same_in_every_process() -> None:
    program = (
        "from onetrunk.core.data.dataset import content_sha256; from onetrunk.core.tasks import Example\n"
        "print(content_sha256([Example('a', {'x', 'y', 'z'}), Example('b', {'k': ('v', 1)})]))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


def test_a_target_that_cannot_be_hashed_raises_plugin_error() -> None:
    with pytest.raises(PluginError, match=r"a target cannot be hashed: .* complex"):
        content_sha256([Example("a", 1j)])
