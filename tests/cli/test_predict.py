"""`adapters predict`: what it prints, what it reads and writes, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from onetrunk.cli.commands.predict import texts_given
from onetrunk.cli.prediction_output import predict_records
from onetrunk.core import Backbone, OneTrunk
from onetrunk.core.data.texts import TextRecord
from onetrunk.core.inference.predictor import CHUNK
from onetrunk.core.testing import tiny_backbone

TEXTS = ("the film is good", "", "Ada in London")


@pytest.fixture
def predict(run: Any, stocked: Path, backbone: Path) -> Any:
    def call(refs: str, *arguments: object, input: str | None = None) -> Any:
        return run("predict", refs, *arguments, "--backbone", backbone, "--precision", "fp32", input=input)

    return call


def lines_of(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_there_is_a_line_for_each_text_and_adapter_in_the_order_asked(predict: Any) -> None:
    records = lines_of(predict("mood,names,mood@1", *TEXTS, "--json").stdout)
    expected = [(text, ref) for text in TEXTS for ref in ("mood@2", "names@1", "mood@1")]
    assert [(record["text"], record["adapter"]) for record in records] == expected


def test_json_has_the_shape_that_scripts_rely_on(predict: Any) -> None:
    mood, names = lines_of(predict("mood,names", TEXTS[0], "--json").stdout)
    assert list(mood) == ["text", "adapter", "label", "score", "scores"]
    assert mood["scores"][mood["label"]] == mood["score"]
    assert list(names) == ["text", "adapter", "entities"]


def test_the_command_answers_as_python_does(predict: Any, backbone: Path) -> None:
    trunk = OneTrunk(Backbone.load(backbone, dtype="fp32"))
    trunk.load("mood@1")
    trunk.load("names")
    answers = [each.to_json() for own in trunk.predict(TEXTS, ["mood@1", "names"]) for each in own]
    assert lines_of(predict("mood@1,names", *TEXTS, "--json").stdout) == answers


def test_other_keys_of_a_record_come_back_under_input(predict: Any, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"id": 7, "text": "good", "adapter": "mine"}\n{"text": "bad"}\n')
    first, second = lines_of(predict("mood", "--input", file, "--json").stdout)
    assert first["input"] == {"id": 7, "adapter": "mine"}
    assert (first["text"], first["adapter"]) == ("good", "mood@2")
    assert "input" not in second


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_stdin_has_one_text_a_line_and_an_empty_line_is_a_text(
    predict: Any, arguments: tuple[str, ...]
) -> None:
    records = lines_of(predict("mood", *arguments, "--json", input="good\n\nbad").stdout)
    assert [record["text"] for record in records] == ["good", "", "bad"]


def test_empty_input_is_an_error_that_says_so(predict: Any) -> None:
    done = predict("mood", "--json", input="")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "stdin: is empty; expected one text per line" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "--input", "f.jsonl"), "not both"),
        (("a", "-"), "'-' reads stdin and cannot be combined with other texts"),
    ],
)
def test_texts_come_from_one_source_only(predict: Any, arguments: tuple[str, ...], message: str) -> None:
    done = predict("mood", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_how_many_texts_there_are_is_known_on_the_command_line_only() -> None:
    assert [texts_given(texts) for texts in (("a", "b"), ("-",), ())] == [2, None, None]


def test_an_empty_input_file_name_is_refused(predict: Any) -> None:
    done = predict("mood", "--input", "", input="good")  # an unset variable of a script, say
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--input has an empty file name" in done.stderr


def test_output_holds_what_json_prints(predict: Any, tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    done = predict("mood,names", *TEXTS, "--output", file)
    assert (done.exit_code, done.stdout) == (0, "")
    assert file.read_text(encoding="utf-8") == predict("mood,names", *TEXTS, "--json").stdout


def test_a_fault_in_the_middle_leaves_the_output_as_it_was(predict: Any, tmp_path: Path) -> None:
    source, file = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "good"}\n{"txt": "bad"}\n')
    file.write_text("before")
    done = predict("mood", "--input", source, "--output", file)
    assert done.exit_code == 1
    assert f'{source}:2: "text" must be a string' in done.stderr
    assert file.read_text() == "before"
    assert {each.name for each in tmp_path.iterdir()} >= {"in.jsonl", "out.jsonl"}
    assert not list(tmp_path.glob(".*"))


def test_an_output_that_cannot_be_written_is_an_error_before_anything_is_loaded(
    predict: Any, tmp_path: Path
) -> None:
    done = predict("mood", "good", "--output", tmp_path / "missing" / "out.jsonl")
    assert done.exit_code == 1
    assert "cannot write" in done.stderr
    assert "No such file or directory" in done.stderr


def test_adapters_on_different_backbones_are_refused_with_both_named(
    run: Any, stocked: Path, data: Path, tmp_path: Path
) -> None:
    other = tiny_backbone(tmp_path / "other", seed=1)
    run(
        "train", "sentiment", "--train", data / "mood", "--backbone", other, "--epochs", "1", "--name", "else"
    )
    done = run("predict", "mood,else", "good")
    assert done.exit_code == 1
    assert re.search(r"mood@2 needs the backbone tiny .*, else@1 needs other ", done.stderr)


def test_without_a_terminal_people_get_plain_lines(predict: Any) -> None:
    one = predict("mood", "the film\x1b is good").stdout
    assert re.fullmatch(r"(negative|positive) +\d\.\d\d.*  the film\\x1b is good\n", one)
    several = predict("mood,names", "the film").stdout.splitlines()
    assert several[0] == "the film"
    assert [line.split()[0] for line in several[1:3]] == ["mood@2", "names@1"]


def test_no_more_records_are_held_than_a_chunk(backbone: Path, stocked: Path) -> None:
    trunk = OneTrunk(Backbone.load(backbone, dtype="fp32"))
    trunk.load("mood")
    read = []

    def records() -> Any:
        for number in range(3 * CHUNK):
            read.append(number)
            yield TextRecord("good", {"n": number}, "")

    answers = predict_records(lambda texts: trunk.predict_stream(texts, ["mood"]), records())
    assert [record.extra["n"] for _, (_, record) in zip(range(5), answers, strict=False)] == [0, 1, 2, 3, 4]
    assert len(read) == CHUNK
