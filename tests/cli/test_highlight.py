"""Predictions as people see them: marked entities, bars of probability, colour."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.cli.highlight import Highlighter
from onetrunk.cli.output import printable
from onetrunk.core import Prediction


def prediction(text: str, *entities: tuple[int, int, str]) -> Prediction:
    found = [{"start": start, "end": end, "label": label} for start, end, label in entities]
    return Prediction(text, "ner@1", {"entities": found})


def test_entities_are_marked_in_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    Highlighter().show([prediction("Ada Lovelace loved London.", (0, 12, "PER"), (19, 25, "LOC"))])
    assert capsys.readouterr().out == "[Ada Lovelace PER] loved [London LOC].\n"


def test_an_entity_within_another_follows_the_text(capsys: pytest.CaptureFixture[str]) -> None:
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
