"""1,000 rows with entities and a label, from real data where it is there, and tasks that read them back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice, takewhile
from pathlib import Path

from onetrunk.core.data.dataset import load_dataset
from onetrunk.core.data.lines import DataSource
from onetrunk.core.data.read_options import AS_WRITTEN, ReadOptions
from onetrunk.core.tasks import Entity, Example, Record, labelled_text
from tests.core.data.sample_tasks import TOPIC, WORDS

DATA = Path(__file__).resolve().parents[4].parent / "shared" / "data"
COUNT = 1000

PARTS = (
    ("날씨가 좋은 ", "서울", "에서 만나요 🙂"),
    ("👩‍👩‍👧 fly from ", "São Paulo", ' at 5:30 pm, "please" & thanks'),
    ("我想去", "北京大学", "。谢谢！"),
    ("𝒜 letter from ", "Zoë O’Neill", " — 100 % sure; it's #1\u00a0!"),
    ("ตั๋วไป", "กรุงเทพ", " สองใบ"),
    ("🙂🙂 ", "東京 🗼", "\tタワー"),
)
KINDS = ("LOC", "creative-work", "인물")
LABELS = ("book_flight", "greet", "질문", "card/arrival?")


@dataclass(frozen=True)
class Row:
    """A text with one label and entities in order, in characters."""

    text: str
    entities: tuple[Entity, ...]
    label: str


@cache
def rows() -> tuple[Row, ...]:
    """Return 1,000 rows: sentences of WNUT 17, questions of BANKING77 and texts of many scripts."""
    real = [*islice(_wnut(), 400), *islice(_banking(), 300)] if DATA.is_dir() else []
    return (*real, *(_mixed(number) for number in range(COUNT - len(real))))


def utf16(text: str, offset: int) -> int:
    return len(text[:offset].encode("utf-16-le")) // 2


def _mixed(number: int) -> Row:
    before, entity, after = PARTS[number % len(PARTS)]
    text, start = f"{before}{entity}{after} {number} {entity}", len(before)
    second = len(text) - len(entity)
    kinds = KINDS[number % 3], KINDS[number // 7 % 3]
    spans = ((start, start + len(entity), kinds[0]), (second, len(text), kinds[1]))
    return Row(text, spans, LABELS[number % 4])


def _wnut() -> Iterator[Row]:
    lines = iter((DATA / "wnut17" / "train.conll").read_text(encoding="utf-8").split("\n"))
    while block := list(takewhile(bool, lines)):
        text = ""
        spans: list[Entity] = []
        for word, tag in (line.split("\t") for line in block):
            text += f"{' ' * bool(text)}{word}"
            if tag.startswith("I-"):
                start, _, kind = spans.pop()
                spans.append((start, len(text), kind))
            elif tag != "O":
                spans.append((len(text) - len(word), len(text), tag[2:]))
        yield Row(text, tuple(spans), "tweet")


def _banking() -> Iterator[Row]:
    for line in (DATA / "banking77" / "train.jsonl").read_text(encoding="utf-8").split("\n"):
        record = json.loads(line)
        yield Row(record["text"], (), record["label"])


def read_spans(record: Record) -> Example:
    entities = record.get("entities")
    found = tuple((each["start"], each["end"], each["label"]) for each in entities or ())
    return Example(record["text"], None if entities is None else found)


SPANS = replace(WORDS, name="spans", read=read_spans)
LABEL = replace(TOPIC, name="label", read=labelled_text)


def spans_of(
    data: DataSource, options: ReadOptions = AS_WRITTEN
) -> list[tuple[str, tuple[Entity, ...] | None]]:
    return [(each.text, each.target) for each in load_dataset(SPANS, data, options).examples]


def labels_of(data: DataSource, options: ReadOptions = AS_WRITTEN) -> list[tuple[str, str | None]]:
    return [(each.text, each.target) for each in load_dataset(LABEL, data, options).examples]


def notes_of(data: DataSource, options: ReadOptions = AS_WRITTEN) -> dict[str, str]:
    return {note.kind: str(note) for note in load_dataset(SPANS, data, options).notes}
