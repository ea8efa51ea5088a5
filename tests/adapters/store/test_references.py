"""References: what is read, what is refused and why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.adapters.errors import ReferenceSyntaxError
from onetrunk.adapters.store.references import (
    MAX_VERSION,
    Reference,
    is_alias,
    is_name,
    validate_alias,
    validate_name,
)

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True).filter(is_name)
aliases = st.one_of(st.none(), names.filter(lambda text: not text.isdigit()))
versions = st.integers(1, MAX_VERSION)

REFUSED = [
    ("", "it is empty"),
    (" ner", "white space"),
    ("ner\n", "white space"),
    ("@3", "the name is empty"),
    ("ner@", "nothing follows the '@'"),
    ("ner@3@4", "more than one '@'"),
    ("Ner", "upper-case letters; write 'ner'"),
    ("ner@Prod", "upper-case letters; write 'prod'"),
    ("../ner", "path characters"),
    ("c:ner", "path characters"),
    ("ner\\x", "path characters"),
    ("acme/ner", "org/repo names an adapter on the Hub"),
    ("acme/ner@v1", "org/repo names an adapter on the Hub"),
    (".", "starts with a letter or digit"),
    ("..", "starts with a letter or digit"),
    ("-ner", "starts with a letter or digit"),
    ("nér", "may have a-z"),
    ("ner.", "ends with a dot"),
    ("con", "a device on Windows"),
    ("com1.v2", "a device on Windows"),
    ("ner@nul", "a device on Windows"),
    ("n" * 65, "65 characters, at most 64"),
    ("ner@0", "from 1 to 999999999 without leading zeros"),
    ("ner@03", "without leading zeros"),
    ("ner@9999999999", "from 1 to 999999999"),
    ("ner@٣", "may have a-z"),
]


@given(name=names, version=versions)
def test_a_reference_to_a_version_round_trips(name: str, version: int) -> None:
    ref = Reference(name, version=version)
    assert Reference.parse(str(ref)) == ref


@given(name=names, alias=aliases)
def test_a_reference_with_or_without_an_alias_round_trips(name: str, alias: str | None) -> None:
    ref = Reference(name, alias=alias)
    assert Reference.parse(str(ref)) == ref


@given(text=st.text(max_size=80))
def test_any_text_is_a_reference_that_writes_itself_the_same_or_is_refused(text: str) -> None:
    try:
        ref = Reference.parse(text)
    except ReferenceSyntaxError:
        return
    assert str(ref) == text


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("ner", Reference("ner")),
        ("ner@3", Reference("ner", version=3)),
        ("ner@prod", Reference("ner", alias="prod")),
        ("ner@latest", Reference("ner", alias="latest")),
        ("ner@3rd", Reference("ner", alias="3rd")),
        ("7", Reference("7")),
    ],
)
def test_the_part_after_the_at_sign_is_a_version_when_it_is_digits(text: str, ref: Reference) -> None:
    assert Reference.parse(text) == ref


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_a_refused_reference_is_told_its_exact_reason(text: str, why: str) -> None:
    with pytest.raises(ReferenceSyntaxError, match=why.replace("(", r"\(")):
        Reference.parse(text)


def test_a_reference_has_a_version_or_an_alias_but_not_both() -> None:
    with pytest.raises(ReferenceSyntaxError, match="both a version and an alias"):
        Reference("ner", version=1, alias="prod")


@pytest.mark.parametrize("alias", ["3", "latest", "Prod", "a/b", "", "aux", "a@b"])
def test_an_alias_that_could_mean_something_else_is_refused(alias: str) -> None:
    assert not is_alias(alias)
    with pytest.raises(ReferenceSyntaxError, match="is not a reference"):
        validate_alias(alias)


@pytest.mark.parametrize("name", ["ner@3", "acme/ner", "prn", "Ä"])
def test_a_name_that_is_no_folder_name_everywhere_is_refused(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(ReferenceSyntaxError, match="is not a reference"):
        validate_name(name)
