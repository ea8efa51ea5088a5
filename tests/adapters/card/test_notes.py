from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.adapters.card.page import notes_section, user_text

CARD = f"---\nlibrary_name: peft\n---\n\n# mood\n\n{notes_section(None)}\n"
BEGIN, END = (line for line in CARD.splitlines() if line.startswith("<!--"))
PIECES = st.lists(
    st.sampled_from([BEGIN, END, "\n", "\r\n", "\r", "x", " ", "```", "<!--", "## Notes", "\x00"])
)


def carded(text: str | None) -> str:
    return f"# mood\n\n{notes_section(text)}\n"


@given(PIECES.map("".join) | st.text())
def test_any_text_survives_card_after_card(text: str) -> None:
    kept = user_text(carded(text))
    assert kept == (text or None)
    assert carded(kept) == carded(text)


def test_the_section_is_marked_and_says_what_it_is_for() -> None:
    heading, _, begin, text, end = notes_section("Mine.").split("\n")
    assert (heading, text) == ("## Notes", "Mine.")
    assert "your own text" in begin
    assert (begin[:4], begin[-3:], end[:4], end[-3:]) == ("<!--", "-->", "<!--", "-->")


@pytest.mark.parametrize("card", ["", "# mood\n", CARD, "# mood\n\n## Notes\n\nMine.\n"])
def test_a_card_without_such_text_has_none(card: str) -> None:
    assert user_text(card) is None


def test_lines_beside_the_markers_need_not_be_empty() -> None:
    assert user_text(f"{BEGIN}\n{END}\n") is None
    assert user_text(f"{BEGIN}\nMine.\n{END}") == "Mine."


def test_a_card_saved_with_other_line_ends_gives_its_text() -> None:
    assert user_text(carded("one\ntwo").replace("\n", "\r\n")) == "one\r\ntwo"


def test_text_whose_closing_line_was_lost_is_kept() -> None:
    assert user_text(f"# mood\n\n{BEGIN}\nMine.\n") == "Mine."


@pytest.mark.parametrize("line", [f"`{BEGIN}`", f" {BEGIN}", f"x {BEGIN}"])
def test_only_a_line_of_its_own_is_a_marker(line: str) -> None:
    assert user_text(f"{line}\n{carded('Mine.')}") == "Mine."
