"""`adapters eval` and `adapters predict`: what they print, where they write, and what they refuse."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.adapters.format.artifact import read_manifest
from onetrunk.adapters.store.store import Store
from onetrunk.cli.backbones import choose_backbone
from onetrunk.cli.commands.eval import print_rows
from onetrunk.cli.commands.predict import predict_records, texts_given
from onetrunk.cli.highlight import Highlighter
from onetrunk.cli.number_format import counted, duration, format_metric, scalar_metrics, size
from onetrunk.cli.options import ModuleList
from onetrunk.cli.output import printable, whole_file
from onetrunk.core import OneTrunk, Prediction
from onetrunk.core.data.dataset import TextRecord
from onetrunk.core.errors import UsageError
from onetrunk.core.inference.predictor import CHUNK
from onetrunk.core.testing import tiny_backbone

TEXTS = ("the film is good", "", "Ada in London")


@pytest.fixture
def evaluate(run: Any, stocked: Path, data: Path, backbone: Path) -> Any:
    def call(ref: str, file: object, *options: object) -> Any:
        return run("eval", ref, "--data", file, "--backbone", backbone, "--precision", "fp32", *options)

    return call


@pytest.fixture
def predict(run: Any, stocked: Path, backbone: Path) -> Any:
    def call(refs: str, *arguments: object, input: str | None = None) -> Any:
        return run("predict", refs, *arguments, "--backbone", backbone, "--precision", "fp32", input=input)

    return call


def lines_of(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(("ref", "folder"), [("mood@1", "mood"), ("names", "names")])
def test_eval_on_dev_gives_the_figures_of_training(evaluate: Any, data: Path, ref: str, folder: str) -> None:
    done = evaluate(ref, data / folder / "dev.jsonl", "--json")
    record = json.loads(done.stdout.splitlines()[-1])
    stored = Store().resolve(ref)
    assert record["adapter"] == stored.ref
    assert record["metrics"] == pytest.approx(scalar_metrics(read_manifest(stored.path).metrics["dev"]))


def test_eval_shows_figures_for_each_type(evaluate: Any, data: Path) -> None:
    shown = evaluate("names", data / "names" / "dev.jsonl").stdout
    assert "names@1 on" in shown
    assert "6 rows" in shown
    assert re.search(r"token accuracy +\d", shown)
    assert re.search(r"type +precision +recall +f1 +support", shown)
    assert re.search(r"LOC +\d", shown)


def test_eval_shows_figures_for_each_label(evaluate: Any, data: Path) -> None:
    shown = evaluate("mood", data / "mood" / "test.jsonl").stdout
    assert re.search(r"label +precision +recall +f1 +support", shown)
    assert re.search(r"positive +\d", shown)


def test_figures_without_a_value_are_null_in_json_and_a_dash_for_people(
    evaluate: Any, data: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.jsonl"
    plain.write_text('{"words": ["the", "room"], "tags": ["O", "O"]}\n')
    usual = json.loads(evaluate("names", data / "names" / "dev.jsonl", "--json").stdout)
    found = json.loads(evaluate("names", plain, "--json").stdout)
    assert found["metrics"].keys() == usual["metrics"].keys()
    assert found["metrics"]["recall"] is None
    shown = evaluate("names", plain).stdout
    assert shown.startswith(f"names@1 on {plain}, 1 row\n")
    assert re.search(r"^ *recall +-$", shown, re.MULTILINE)


def test_what_a_task_notes_on_the_data_is_told(evaluate: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a London-based firm", "entities": [{"start": 2, "end": 8, "label": "LOC"}]}\n')
    done = evaluate("names", file, "--json")
    assert done.stderr.startswith(f"{file}: 1 of 1 entities were widened to whole words")
    assert len(done.stdout.splitlines()) == 1


def test_of_many_labels_those_that_are_nowhere_in_the_data_come_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = {f"l{i}": {"f1": i / 40 if i else None} for i in range(40)}
    print_rows("label", rows)
    shown = re.findall(r"^ *(l\d+) ", capsys.readouterr().out, re.MULTILINE)
    assert shown == [f"l{i}" for i in range(1, 31)]


def test_the_report_has_every_figure_the_data_and_the_adapter(
    evaluate: Any, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    printed = json.loads(evaluate("mood", data / "mood" / "dev.jsonl", "--report", file, "--json").stdout)
    report = json.loads(file.read_text())
    assert report["adapter"] == "mood@2"
    assert report["rows"] == 10
    assert report["sha256"] == read_manifest(Store().resolve("mood").path).data["dev"].sha256
    assert report["metrics"]["confusion"]["labels"] == ["negative", "positive"]
    assert scalar_metrics(report["metrics"]) == printed["metrics"]


@pytest.mark.parametrize("place", ["missing/report.json", "."])
def test_a_report_that_cannot_be_written_is_told_before_anything_is_computed(
    run: Any, stocked: Path, data: Path, tmp_path: Path, place: str
) -> None:
    # Without --backbone: had it come to computing, that would be the error.
    done = run("eval", "mood", "--data", data / "mood" / "dev.jsonl", "--report", tmp_path / place)
    assert done.exit_code == 1
    assert f"cannot write {tmp_path / place}" in done.stderr


def test_a_run_that_fails_leaves_the_report_as_it_was(
    run: Any, stocked: Path, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    file.write_text("before")
    done = run("eval", "mood", "--data", data / "mood" / "dev.jsonl", "--report", file)
    assert "give it with --backbone" in done.stderr
    assert file.read_text() == "before"
    assert not list(tmp_path.glob(".report*"))


def test_of_a_folder_the_test_file_is_measured_and_said_so(evaluate: Any, data: Path) -> None:
    folder, file = (evaluate("mood", data / "mood" / name, "--json") for name in ("", "test.jsonl"))
    assert f"{data / 'mood'} is a folder; evaluating on {data / 'mood' / 'test.jsonl'}" in folder.stderr
    assert folder.stdout == file.stdout


def test_of_a_folder_without_a_test_file_the_dev_file_is_measured(evaluate: Any, data: Path) -> None:
    done = evaluate("names", data / "names")
    assert done.stdout.startswith(f"names@1 on {data / 'names' / 'dev.jsonl'}, 6 rows\n")


def test_eval_refuses_an_unknown_label_with_file_and_line(
    evaluate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "odd.jsonl"
    file.write_text('{"text": "a", "label": "positive"}\n{"text": "a", "label": "mixed"}\n')
    done = evaluate("mood", file, "--report", tmp_path / "report.json")
    assert done.exit_code == 1
    assert f"{file}:2: unknown label 'mixed'" in done.stderr
    assert not (tmp_path / "report.json").exists()


def test_eval_without_a_backbone_says_that_a_local_folder_must_be_given(
    run: Any, stocked: Path, data: Path
) -> None:
    done = run("eval", "mood", "--data", data / "mood" / "dev.jsonl")
    assert done.exit_code == 1
    assert "trained on the local folder 'tiny'" in done.stderr
    assert "--backbone" in done.stderr


def test_eval_on_another_backbone_is_refused(run: Any, stocked: Path, data: Path, tmp_path: Path) -> None:
    other = tiny_backbone(tmp_path / "other", seed=1)
    done = run("eval", "mood", "--data", data / "mood" / "dev.jsonl", "--backbone", other)
    assert done.exit_code == 1
    assert "adapter mood@2 was trained on tiny" in done.stderr


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
    trunk = OneTrunk(backbone, dtype="fp32")
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
    assert "stdin: is empty; expected one text a line" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("a", "--input", "f.jsonl"), "not both"), (("a", "-"), "'-' is stdin, and stands alone")],
)
def test_texts_come_from_one_place(predict: Any, arguments: tuple[str, ...], message: str) -> None:
    done = predict("mood", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_how_many_texts_there_are_is_known_on_the_command_line_only() -> None:
    assert [texts_given(texts) for texts in (("a", "b"), ("-",), ())] == [2, None, None]


def test_an_empty_name_of_a_file_is_refused(predict: Any, evaluate: Any) -> None:
    done = predict("mood", "--input", "", input="good")  # an unset variable of a script, say
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--input has an empty file name" in done.stderr
    done = evaluate("mood", "")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "--data has an empty file name" in done.stderr


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
    trunk = OneTrunk(backbone, dtype="fp32")
    trunk.load("mood")
    read = []

    def records() -> Any:
        for number in range(3 * CHUNK):
            read.append(number)
            yield TextRecord("good", {"n": number}, "")

    answers = predict_records(lambda texts: trunk.predict_stream(texts, ["mood"]), records())
    assert [record.extra["n"] for _, (_, record) in zip(range(5), answers, strict=False)] == [0, 1, 2, 3, 4]
    assert len(read) == CHUNK


def prediction(text: str, *entities: tuple[int, int, str]) -> Prediction:
    found = [{"start": start, "end": end, "label": label} for start, end, label in entities]
    return Prediction(text, "ner@1", {"entities": found})


def test_entities_are_marked_in_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    Highlighter().show([prediction("Ada Lovelace loved London.", (0, 12, "PER"), (19, 25, "LOC"))])
    assert capsys.readouterr().out == "[Ada Lovelace PER] loved [London LOC].\n"


def test_an_entity_within_another_stands_behind_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    Highlighter().show([prediction("Bank of London", (8, 14, "LOC"), (0, 14, "ORG"))])
    assert capsys.readouterr().out == "[Bank of London ORG]  [London LOC]\n"


@given(st.text(st.characters(exclude_characters="[]")), st.lists(st.integers(0, 40), max_size=8))
def test_marking_loses_nothing_of_the_text(text: str, cuts: list[int]) -> None:
    marks = sorted({min(cut, len(text)) for cut in cuts})
    spans = [(start, end, "X") for start, end in zip(marks[::2], marks[1::2], strict=False)]
    shown = Highlighter().mark(text, prediction(text, *spans).result["entities"]).plain
    assert shown.replace("[", "").replace(" X]", "") == printable(text)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_on_a_terminal_entities_have_a_colour(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    Highlighter().show([prediction("Ada.", (0, 3, "PER"))])
    assert re.search("\x1b\\[1;36mAda .*\x1b\\[7;36m PER ", capsys.readouterr().out)


def test_no_color_is_obeyed(
    terminal: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    Highlighter().show([prediction("Ada.", (0, 3, "PER"))])
    assert capsys.readouterr().out == "[Ada PER].\n"


def test_on_a_terminal_a_label_has_a_bar_as_long_as_its_probability(
    terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    Highlighter().show([Prediction("x", "m@1", {"label": "a", "scores": {"a": 0.75, "b": 0.25}})])
    shown = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)
    assert shown == "a ███████▌    0.75  b 0.25  x\n"


def test_a_label_that_means_none_of_them_shows_no_probability(capsys: pytest.CaptureFixture[str]) -> None:
    Highlighter().show([Prediction("x", "m@1", {"label": "oos", "scores": {"a": 0.6, "b": 0.05}})])
    assert capsys.readouterr().out.split() == ["oos", "a", "0.60", "x"]


def test_an_answer_of_another_shape_is_shown_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    Highlighter().show([Prediction("x", "m@1", {"topics": ["é"]})])
    assert capsys.readouterr().out == '{"topics": ["é"]}  x\n'


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with suppress(EOFError), whole_file(tmp_path / "f") as file:
        file.write("half")
        raise EOFError
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    with whole_file(tmp_path / "link") as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_what_is_no_regular_file_is_written_directly() -> None:
    with whole_file(Path("/dev/null")) as file:
        file.write("x")
    assert Path("/dev/null").is_char_device()


def test_a_chosen_backbone_is_taken_whatever_the_adapters_need(stocked: Path) -> None:
    manifest = read_manifest(Store().resolve("mood").path)
    assert choose_backbone({"mood@2": manifest}, "some/where") == ("some/where", None)


def test_a_backbone_of_the_hub_is_loaded_at_its_revision(stocked: Path) -> None:
    manifest = read_manifest(Store().resolve("mood").path)
    hub = replace(manifest, backbone=replace(manifest.backbone, name="org/model", revision="abc"))
    assert choose_backbone({"mood@2": hub}, None) == ("org/model", "abc")


@pytest.mark.parametrize("found", [(), ("tiny",)])
def test_a_local_backbone_must_be_given_and_is_never_looked_for_by_its_bare_name(
    stocked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: tuple[str, ...]
) -> None:
    for name in found:
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    manifest = read_manifest(Store().resolve("mood").path)
    with pytest.raises(UsageError, match=r"mood@2 was trained on the local folder 'tiny'.*--backbone PATH"):
        choose_backbone({"mood@2": manifest}, None)


@given(st.lists(st.sampled_from(["query", "value", "output"]), min_size=1))
def test_modules_are_read_once_each(names: list[str]) -> None:
    chosen = ModuleList().convert(" , ".join(names), None, None)
    assert chosen == tuple(dict.fromkeys(names))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (counted(1, "row"), "1 row"),
        (counted(8, "row"), "8 rows"),
        (size(999), "999 B"),
        (size(4_690_000), "4.7 MB"),
        (size(999_950), "1.0 MB"),
        (duration(3.21), "3.2 s"),
        (duration(59.96), "1 min 00 s"),
        (duration(125.4), "2 min 05 s"),
        (duration(3725), "1 h 02 min"),
        (format_metric(None), "-"),
        (format_metric(7), "7"),
        (format_metric(0.5), "0.5000"),
    ],
)
def test_numbers_read_well(shown: str, expected: str) -> None:
    assert shown == expected
