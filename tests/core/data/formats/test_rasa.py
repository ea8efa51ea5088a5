from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrunk.core.data.notes import Note
from onetrunk.core.data.read_options import ReadOptions
from onetrunk.core.data.readers import SourceRecord, read_records
from onetrunk.core.errors import DataError
from tests.core.data.sample_tasks import write


def read(path: Path, content: str, notes: list[Note] | None = None) -> list[SourceRecord]:
    return list(read_records(write(path, content), notes=notes))


def entity(start: int, end: int, label: str) -> dict[str, object]:
    return {"start": start, "end": end, "label": label}


def test_each_form_of_annotation_is_an_entity_of_the_text_without_it(tmp_path: Path) -> None:
    line = '- from [Paris](city) to [NY](city:New York) on [Monday]{"entity": "day"} [x][{"entity": "a"}]'
    (source,) = read(tmp_path / "nlu.md", f"## intent:book\n{line}\n")
    assert source.record == {
        "text": "from Paris to NY on Monday x",
        "label": "book",
        "entities": [
            entity(5, 10, "city"),
            entity(14, 16, "city"),
            entity(20, 26, "day"),
            entity(27, 28, "a"),
        ],
    }
    assert source.where == f"{tmp_path}/nlu.md:2"


def test_brackets_that_annotate_nothing_stay(tmp_path: Path) -> None:
    (source,) = read(tmp_path / "nlu.md", "## intent:a\n- see [1] (or {2}) [x] y\n")
    assert (source.record["text"], source.record["entities"]) == ("see [1] (or {2}) [x] y", [])


YAML = """\
# a comment
version: "3.1"
nlu:
- intent: no
  examples: |
    - hey
    - [Paris](city)
- synonym: NYC
  examples: |
    - New York
- intent: chitchat/name
  examples:
  - text: who are you
    metadata: {sentiment: neutral}
- intent: quoted
  examples: "- one\\n- two"
"""


def test_yaml_gives_intents_as_they_are_written_with_their_lines(tmp_path: Path) -> None:
    found = read(tmp_path / "nlu.yml", YAML)
    assert [(each.record["text"], each.record["label"]) for each in found] == [
        ("hey", "no"),
        ("Paris", "no"),
        ("who are you", "chitchat/name"),
        ("one", "quoted"),
        ("two", "quoted"),
    ]
    assert [each.where.rpartition(":")[2] for each in found[:3]] == ["6", "7", "13"]


def test_a_stream_shows_by_its_first_line_whether_it_is_markdown(tmp_path: Path) -> None:
    options = ReadOptions(format="rasa")
    for name, content in (
        ("a.txt", "## intent:a\n- x\n"),
        ("b.txt", "nlu:\n- intent: a\n  examples: |\n    - x\n"),
    ):
        (source,) = read_records(write(tmp_path / name, content), options)
        assert source.record == {"text": "x", "label": "a", "entities": []}


def test_comments_over_lines_and_files_of_lookup_tables_are_skipped(tmp_path: Path) -> None:
    intents = "<!-- a\n- b\n--> \n## intent:a <!-- c -->\n- x <!-- d\n- y -->\n- z\n"
    content = f"{intents}## lookup:plates\ndata/plates.txt\n"
    found = read(tmp_path / "a.md", content)
    assert [(each.record["text"], each.record["label"]) for each in found] == [("x", "a"), ("z", "a")]


def test_markdown_is_read_gzipped(tmp_path: Path) -> None:
    (tmp_path / "a.md.gz").write_bytes(gzip.compress(b"## intent:a\n- x\n"))
    assert [each.record["text"] for each in read_records(tmp_path / "a.md.gz")] == ["x"]


def test_what_is_left_out_is_noted_with_count_and_first_line(tmp_path: Path) -> None:
    notes: list[Note] = []
    content = (
        '## intent:a\n- [NY](city:New York)\n- [LA](city:Los Angeles)\n- [x]{"entity": "c", "role": "from"}\n'
        "## synonym:savings\n- pink pig\n\n## regex:zip\n- [0-9]{5}\n"
    )
    assert len(read(tmp_path / "a.md", content, notes)) == 3
    assert [(note.message, note.count, note.where[-2:]) for note in notes] == [
        ("values of entities (synonyms) are ignored: 2", 2, ":2"),
        ("the role of entities is ignored: 1", 1, ":4"),
        ("parts of the kind synonym are ignored: 1", 1, ":5"),
        ("parts of the kind regex are ignored: 1", 1, ":8"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.md",
            "# Readme\n\nWelcome.\n",
            r"a\.md:1: is '# Readme'; expected '- an example' below '## intent:name'",
        ),
        ("a.md", "- hello\n", r"a\.md:1: is '- hello'; expected"),
        ("a.md", "## intent:a\n- x\nhello\n", r"a\.md:3: is 'hello'; expected"),
        ("a.md", "## story:a\n", r"a\.md:1: is a part 'story'; expected intent, synonym, regex, lookup"),
        ("a.md", '## intent:a\n- [x]{"entity": }\n', r"a\.md:2: the annotation .* is not JSON"),
        ("a.md", '## intent:a\n- [x]{"role": "a"}\n', r"a\.md:2: expected {\"entity\": \"type\"}, found"),
        (
            "a.md",
            '## intent:a\n- [x][{"entity": "a"}, 3, {"entity": "b"}]\n',
            r"a\.md:2: expected .*, found 3",
        ),
        ("a.md", "## intent:a\n- [x]()\n", r"a\.md:2: '\]\(\)' is not an annotation"),
        ("a.md", '## intent:a\n- [x]{"entity": "a", "b": {}}\n', r"a\.md:2: '\]\{.* is not an annotation"),
        ("a.md", "## intent:a\n- <!-- x -->\n", r"a\.md:2: is '-'; expected"),
        ("a.yml", "intents:\n- greet\n", r"a\.yml: has no list under 'nlu:'; expected NLU data of Rasa"),
        ("a.yml", "- x\n", r"a\.yml: has no list under 'nlu:'"),
        ("a.yml", "nlu:\n- intent: a\n  examples: '- x'\n  examples: '- y'\n", r"a\.yml:2: has a key twice"),
        ("a.yml", "nlu:\n- greet\n", r"a\.yml:2: expected '- intent: name' with 'examples:'"),
        ("a.yml", "nlu:\n- intent: a\n  examples: |\n    hey\n", r"a\.yml:4: is 'hey'; expected an example"),
        ("a.yml", "nlu:\n- intent: a\n  examples:\n  - [x]\n", r"a\.yml:4: expected an example with 'text:'"),
        ("a.yml", "nlu:\n\t- x\n", r"a\.yml:2: is not valid YAML: found character"),
        ("a.yml", "nlu: *x\n", r"a\.yml:1: is not valid YAML: found undefined alias"),
        ("a.yml", "nlu: " + "[" * 100_000, r"a\.yml: is not valid YAML: it is nested deeper than 50 levels"),
        ("a.yml", "a: 1\x01\n", r"a\.yml: is not valid YAML|a\.yml:1: is not valid YAML"),
    ],
)
def test_what_is_not_training_data_is_refused_with_its_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / name, content)


def test_yaml_that_grows_by_aliases_is_refused_at_once(tmp_path: Path) -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    with pytest.raises(DataError, match="has no list under 'nlu:'"):
        read(tmp_path / "a.yml", f"a0: &a0 x\n{levels}")


def test_yaml_constructs_no_objects(tmp_path: Path) -> None:
    made = tmp_path / "made"
    content = f"nlu:\n- intent: a\n  examples: !!python/object/apply:os.mkdir ['{made}']\n"
    assert [each.record["text"] for each in read(tmp_path / "a.yml", content)] == [str(made)]
    assert not made.exists()


@given(
    content=st.text(st.sampled_from("#-*: \n[](){}\"'entiyabé:|>&*!%,?"), max_size=60),
    name=st.sampled_from(["a.md", "a.yml"]),
)
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: str, name: str
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    try:
        found = read(path, f"## intent:a\n{content}" if name == "a.md" else f"nlu:\n{content}")
        lines = "ok" if all(each.record["label"] for each in found) else "no intent"
    except DataError as fault:
        lines = str(fault)
    assert "\n" not in lines
    assert lines != "no intent"
