"""The card as a whole: its text, labels, training and limitations."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from onetrunk.adapters.card import user_text
from onetrunk.adapters.format import strict_json
from onetrunk.adapters.format.manifest import (
    Manifest,
)
from tests.adapters.card.cards import MANIFEST, MARKERS, STRANGE, card, metadata_of, tables_of, tokens_of


def test_one_row_is_a_row() -> None:
    one = replace(MANIFEST, data={"train": replace(MANIFEST.data["train"], rows=1)})
    assert "- train data: 1 row, " in card(one)
    assert "- train data: 1,234 rows, " in card()


def test_what_the_decoder_was_calibrated_to_is_told() -> None:
    (_, settings) = re.findall(
        r"```json\n(.*?)```", card(replace(MANIFEST, settings={"threshold": 0.5})), re.DOTALL
    )
    assert json.loads(settings) == {"threshold": 0.5}


def test_what_was_trained_from_what_is_told() -> None:
    text = card()
    assert "trained parameters: 1,000 (1.00 % of the backbone's)" in text
    assert f"train data: 1,234 rows, sha256 `{'0' * 16}…`" in text
    assert "continues the training of `sentiment@1`" in text
    assert json.loads(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0]) == {"epochs": 3}


@given(st.lists(STRANGE, min_size=1, max_size=5, unique=True))
def test_each_label_is_one_piece_of_code(labels: list[str]) -> None:
    text = card(replace(MANIFEST, labels=tuple(labels)))
    (line,) = [line for line in text.splitlines() if line.startswith(f"Labels ({len(labels)}):")]
    assert line.count("`") == 2 * len(labels)


def test_a_label_is_shown_as_it_is() -> None:
    labels = ("œuvre 🙂", "a|b", "<b>", "نیم\u200cفاصله")
    for label in labels:
        assert f"`{label}`" in card(replace(MANIFEST, labels=labels))


def test_too_many_labels_are_cut() -> None:
    text = card(replace(MANIFEST, labels=tuple(f"l{i}" for i in range(301))))
    assert "Labels (301): `l0`" in text
    assert "`l299`, …; see `task.json` for all" in text
    assert "`l300`" not in text


@settings(max_examples=60)
@given(st.lists(STRANGE, min_size=2, max_size=6, unique=True), STRANGE, STRANGE)
@example(["0", "1"], "0", "__0__")
def test_no_text_of_strangers_is_more_than_text(labels: list[str], metric: str, other: str) -> None:
    rows = {label: {metric: 0.5, "f1": None} for label in labels}
    matrix = {"labels": labels, "rows": [[0] * len(labels) for _ in labels]}
    odd = replace(
        MANIFEST,
        onetrunk=other,
        labels=tuple(labels),
        metrics={"test": {metric: 0.5, f"t{other}": rows, f"u{other}": matrix}},
        training={metric: other},
        parent=other,
        settings={other: metric},
    )
    text = card(odd, name=f"x{other}", summary=f"x{metric}", languages=(other,), repo=other)
    assert not re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e\ufeff]", text)
    types = [token.type for token in tokens_of(text)]
    assert types.count("html_block") == MARKERS
    assert not {"html_inline", "link_open", "image", "em_open", "strong_open", "s_open"}.intersection(types)
    assert types.count("table_open") == 3
    for table in tables_of(text):
        assert len({len(row) for row in table}) == 1
    assert types.count("heading_open") == 8
    assert len(re.findall("^## ", text, re.MULTILINE)) == 5


def test_an_address_in_plain_words_does_not_become_a_link() -> None:
    assert "see https\\://x.org or www\\.x.org" in card(summary="see https://x.org or www.x.org")


def test_limitations_are_told_as_far_as_they_are_known() -> None:
    assert "no metrics" not in card().split("## Limitations")[1]
    assert "No evaluation: there are no metrics" in card(replace(MANIFEST, metrics={}))
    assert "Trained on 1,234 rows (language not stated)." in card()
    assert "Trained on 1,234 rows (languages: `en`, `de`)." in card(languages=("en", "de"))
    assert "Trained on an unknown number of rows" in card(replace(MANIFEST, data={}))
    assert "No metrics on a test split." in card(replace(MANIFEST, metrics={"dev": {"accuracy": 1.0}}))
    assert "calibrated for" in card(replace(MANIFEST, settings={"threshold": 1})).split("## Limitations")[1]


def test_the_size_is_told_where_it_is_known() -> None:
    assert "- weights" not in card()
    assert "- weights: 0.9 MB (897,716 bytes)" in card(weight_bytes=897_716)


def test_the_picture_is_shown_where_there_is_one() -> None:
    assert "image" not in {token.type for token in tokens_of(card())}
    (image,) = [token for token in tokens_of(card(has_picture=True)) if token.type == "image"]
    assert image.attrs["src"] == "training.png"


def test_what_comes_back_from_the_disk_gives_the_same_bytes() -> None:
    confusion = {"labels": ["pos", "neg"], "rows": [[1, 0], [0, 1]]}
    table = {"pos": {"support": 1, "precision": 0.5}, "neg": {"f1": 0.5, "precision": 0.25}}
    metrics: dict[str, dict[str, Any]] = {
        "test": {"macro_f1": 0.5, "accuracy": 1.0, "z": table, "confusion": confusion},
        "dev": {"f1": 0.5},
    }
    data = {"dev": MANIFEST.data["train"], "train": MANIFEST.data["train"]}
    made = replace(MANIFEST, metrics=metrics, data=data, training={"b": 1, "a": 2}, settings={"d": 1, "c": 2})
    read = Manifest.from_json(strict_json.parse(strict_json.dump(made.to_json())), Path("x"))
    assert read == made
    assert card(read) == card(made)


@settings(max_examples=30)
@given(st.text())
def test_the_users_text_is_in_the_card_and_comes_back(text: str) -> None:
    rendered = card(notes=text)
    assert user_text(rendered) == (text or None)
    assert card(notes=user_text(rendered)) == rendered
    assert metadata_of(rendered) == metadata_of(card())
