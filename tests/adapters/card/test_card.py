from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from onetrunk.adapters.card import CALIBRATED_ON_DEV, RECIPES, CardFacts, render_card, user_text
from onetrunk.adapters.format import strict_json
from onetrunk.adapters.format.manifest import (
    SCHEMA,
    BackboneRecord,
    DataRecord,
    Manifest,
    Parameters,
    PluginRecord,
    Probe,
)

MANIFEST = Manifest(
    onetrunk="0.1.0",
    task="sentiment",
    plugin=PluginRecord(distribution="onetrunk", version="0.1.0"),
    level="text",
    labels=("neg", "pos"),
    pooling="cls",
    head="peft",
    method="lora",
    settings={},
    backbone=BackboneRecord(
        name="some-org/some-bert",
        revision="abc",
        fingerprint="f" * 64,
        tokenizer="e" * 64,
        style="bert",
        hidden_size=32,
        layers=2,
    ),
    data={"train": DataRecord(sha256="0" * 64, rows=1234, source="train.jsonl")},
    metrics={
        "dev": {"accuracy": 0.5, "macro_f1": 0.25, "rows": 7, "table": {"x": 1}, "recall": None},
        "test": {"accuracy": 1.0},
    },
    training={"epochs": 3},
    parent="sentiment@1",
    parameters=Parameters(trained=1000, backbone=100_000),
    probe=Probe(texts=("a",), logits=([0.0, 1.0],)),
    created="2026-01-31T12:00:00+00:00",
    files={},
    schema=SCHEMA,
)


STRANGE = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("|`<>&\\*_[]!#:\"'{}-\n\r\t\0\x7f\x85\u2028\ufeff\u202e🙂"),
    ),
    min_size=1,
    max_size=30,
)
"""What strangers may call a label, a metric or a file."""
MARKERS = 2
"""Comments in HTML that a card has, all of them around the notes."""


def facts(manifest: Manifest = MANIFEST, recipe: str | None = "cls", **more: Any) -> CardFacts:
    return CardFacts(
        **{"name": "mood", "summary": "one label a text", **more}, manifest=manifest, recipe=recipe
    )


def card(manifest: Manifest = MANIFEST, recipe: str | None = "cls", **more: Any) -> str:
    return render_card(facts(manifest, recipe, **more))


def on_hub(manifest: Manifest = MANIFEST, recipe: str | None = "cls") -> str:
    return card(manifest, recipe, repo="some-org/mood")


def metadata_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = ModelCard(text).data.to_dict()  # type: ignore[no-untyped-call]
    return found


def tokens_of(text: str) -> list[Token]:
    """Return what a reader of Markdown makes of a card below its metadata, the words within blocks included."""
    body: str = ModelCard(text).text
    blocks = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body)
    return [each for block in blocks for each in (block, *(block.children or ()))]


def tables_of(text: str) -> list[list[list[str]]]:
    """Return the cells of each table of a card, by row."""
    tables: list[list[list[str]]] = []
    cell = False
    for token in tokens_of(text):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("th_open", "td_open", "th_close", "td_close"):
            cell = token.nesting == 1
        elif token.type == "inline" and cell:
            tables[-1][-1].append("".join(child.content for child in token.children or ()))
    return tables


def result_tables(metrics: dict[str, Any], labels: Sequence[str] = ("neg", "pos")) -> list[list[list[str]]]:
    return tables_of(card(replace(MANIFEST, metrics={"test": metrics}, labels=tuple(labels))))


def test_one_row_is_a_row() -> None:
    one = replace(MANIFEST, data={"train": replace(MANIFEST.data["train"], rows=1)})
    assert "- train: 1 row, " in card(one)
    assert "- train: 1,234 rows, " in card()


def code_of(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?\n)```$", text, re.DOTALL | re.MULTILINE)


def test_the_metadata_are_what_the_hub_reads() -> None:
    found = metadata_of(card())
    del found["model-index"]
    assert found == {
        "library_name": "peft",
        "base_model": "some-org/some-bert",
        "base_model_relation": "adapter",
        "pipeline_tag": "text-classification",
        "tags": ["onetrunk", "onetrunk-format-1", "lora", "onetrunk-task:sentiment", "sentiment"],
        "metrics": ["accuracy", "f1"],
    }


def test_what_is_told_of_licence_languages_and_data_is_in_the_metadata() -> None:
    found = metadata_of(card(license="apache-2.0", languages=("no", "de"), datasets=("org/set", "b")))
    assert found["license"] == "apache-2.0"
    assert found["language"] == ["no", "de"]  # YAML 1.1 has a bare `no` as False
    assert found["datasets"] == ["org/set", "b"]


def test_the_results_are_what_the_hub_reads() -> None:
    data = {**MANIFEST.data, "test": DataRecord(sha256="1" * 64, rows=9, source="my test.jsonl")}
    index = metadata_of(card(replace(MANIFEST, data=data)))["model-index"]
    name, (dev, _, test) = model_index_to_eval_results(index)
    assert name == "mood"
    assert (dev.task_type, dev.task_name) == ("text-classification", "one label a text")
    assert (dev.dataset_name, dev.dataset_type, dev.dataset_split) == ("sentiment", "sentiment", "dev")
    assert (dev.metric_name, dev.metric_type, dev.metric_value) == ("accuracy", "accuracy", 0.5)
    assert (test.dataset_name, test.dataset_type) == ("my test.jsonl", "my-test.jsonl")
    assert test.metric_value == 1.0


def test_each_figure_of_merit_has_the_hubs_word_for_it_and_counts_are_none() -> None:
    metrics = {"dev": {"macro_f1": 1, "rows": 7, "flag": True, "own": 0.5}}
    (result,) = metadata_of(card(replace(MANIFEST, metrics=metrics)))["model-index"][0]["results"]
    assert result["metrics"] == [
        {"name": "macro_f1", "type": "f1", "value": 1.0},
        {"name": "own", "type": "own", "value": 0.5},
    ]


def test_one_data_set_named_by_the_user_is_the_one_of_the_results() -> None:
    index = metadata_of(card(datasets=("org/set",)))["model-index"]
    assert {result["dataset"]["type"] for result in index[0]["results"]} == {"org/set"}


@pytest.mark.parametrize("value", [1e-7, 1e-5, 3e20, 0.1, -2.5, 0.0, 1e300])
def test_any_figure_is_read_as_a_number(value: float) -> None:
    index = metadata_of(card(replace(MANIFEST, metrics={"dev": {"loss": value}})))["model-index"]
    found = index[0]["results"][0]["metrics"][0]["value"]
    assert isinstance(found, float)
    assert found == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("metrics", [{}, {"dev": {}}, {"dev": {"accuracy": None}}])
def test_without_figures_there_are_no_results(metrics: dict[str, Any]) -> None:
    text = card(replace(MANIFEST, metrics=metrics))
    assert "model-index" not in metadata_of(text)
    assert "There are no figures." in text


@pytest.mark.parametrize(
    ("name", "revision", "told"),
    [
        ("org/bert", None, True),
        ("bert-base-uncased", "abc", True),
        ("my-folder", None, False),
        ("/home/ada/bert", "abc", False),
        ("C:\\bert", "abc", False),
        ("./bert", None, False),
        ("org/bert\n", None, False),
        ("a: b", None, False),
    ],
)
def test_the_hub_is_told_of_the_backbone_only_by_an_id(name: str, revision: str | None, told: bool) -> None:
    backbone = replace(MANIFEST.backbone, name=name, revision=revision)
    found = metadata_of(card(replace(MANIFEST, backbone=backbone)))
    assert ("base_model" in found, "base_model_relation" in found) == (told, told)


@settings(max_examples=40)
@given(st.lists(STRANGE, min_size=7, max_size=7))
def test_no_text_of_strangers_can_break_the_metadata(texts: list[str]) -> None:
    name, summary, licence, language, dataset, metric, source = texts
    data = {"test": DataRecord(sha256="0" * 64, rows=1, source=source)}
    odd = replace(MANIFEST, data=data, metrics={"test": {metric: 0.5}})
    text = card(
        odd, name=name, summary=summary, license=licence, languages=(language,), datasets=(dataset, "b")
    )
    found = yaml.safe_load(text.split("\n---\n")[0])
    assert found == metadata_of(text)
    assert (found["license"], found["language"], found["datasets"]) == (licence, [language], [dataset, "b"])
    (index,) = found["model-index"]
    (result,) = index["results"]
    assert (index["name"], result["task"]["name"]) == (name, summary)
    assert (result["metrics"][0]["name"], result["dataset"]["name"]) == (metric, source)
    assert re.fullmatch(r"([\w-]+/)?[\w.-]+", result["dataset"]["type"], re.ASCII)


def test_a_file_of_the_card_is_read_by_the_hubs_own_reader(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(card(name="a\n---\nb: \x00🙂").encode())
    found = metadata_load(path)
    assert found is not None
    assert found["model-index"][0]["name"] == "a\n---\nb: \x00🙂"


@pytest.mark.parametrize(
    ("manifest", "recipe", "loader"),
    [
        (replace(MANIFEST, level="token", pooling=None), "token", "AutoModelForTokenClassification"),
        (MANIFEST, "cls", "AutoModelForSequenceClassification"),
        (replace(MANIFEST, pooling="mean", head="file"), "mean", "AutoModel"),
        (replace(MANIFEST, head="file"), "first", "AutoModel"),
        (replace(MANIFEST, level="token", pooling=None, head="file"), "words", "AutoModel"),
    ],
)
def test_each_form_has_lines_of_python_that_load_it(manifest: Manifest, recipe: str, loader: str) -> None:
    (code,) = code_of(card(manifest, recipe))
    compile(code, "card", "exec")
    assert f"{loader}.from_pretrained(base" in code
    assert 'base, adapter = "some-org/some-bert", "."' in code


@pytest.mark.parametrize("recipe", RECIPES)
def test_on_the_hub_the_lines_load_from_there(recipe: str) -> None:
    (code,) = code_of(on_hub(recipe=recipe))
    compile(code, "card", "exec")
    assert 'adapter = "some-org/some-bert", "some-org/mood"\n' in code
    assert 'hf_hub_download(adapter, "' in code
    assert "this folder" not in code


@given(STRANGE)
def test_no_name_of_a_backbone_can_break_the_lines(name: str) -> None:
    (code,) = code_of(card(replace(MANIFEST, backbone=replace(MANIFEST.backbone, name=name))))
    assigned = next(node for node in ast.parse(code).body if isinstance(node, ast.Assign))
    assert ast.literal_eval(assigned.value) == (name, ".")


def test_the_commands_name_the_adapter_where_it_is() -> None:
    assert 'adapters predict mood "some text"' in card()
    assert "\nadapters serve mood " in card()
    for command in ('predict some-org/mood "some text"', "pull some-org/mood ", "serve mood=some-org/mood "):
        assert f"\nadapters {command}" in on_hub()


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_lines_load_the_very_revision_that_was_trained_on(recipe: str) -> None:
    (pinned,) = code_of(card(recipe=recipe))
    assert pinned.count(".from_pretrained(base") == pinned.count('.from_pretrained(base, revision="abc"') > 0
    local = replace(MANIFEST, backbone=replace(MANIFEST.backbone, revision=None))
    (plain,) = code_of(card(local, recipe))
    assert "revision" not in plain


@pytest.mark.parametrize(("level", "told"), [("token", True), ("text", False)])
def test_words_that_the_tokenizer_drops_are_spoken_of_where_words_are_read(level: str, told: bool) -> None:
    assert ("A word of which the tokenizer leaves nothing" in card(replace(MANIFEST, level=level))) == told


def test_dev_figures_of_a_calibrated_decoder_are_marked() -> None:
    assert CALIBRATED_ON_DEV not in card()
    results = card(replace(MANIFEST, settings={"threshold": 0.5})).split("## Use")[0]
    assert results.endswith(f"|\n\n{CALIBRATED_ON_DEV}\n\n")


def test_what_the_decoder_was_calibrated_to_is_told() -> None:
    (_, settings) = re.findall(
        r"```json\n(.*?)```", card(replace(MANIFEST, settings={"threshold": 0.5})), re.DOTALL
    )
    assert json.loads(settings) == {"threshold": 0.5}


def test_a_head_of_a_plugins_own_is_said_to_be_so() -> None:
    text = card(replace(MANIFEST, head="file", pooling="mean"), None)
    assert code_of(text) == []
    assert "the plugin's own" in text


def test_the_figures_stand_in_a_table_with_a_column_a_split() -> None:
    assert (
        "| | dev | test |\n|---|---|---|\n| accuracy | 0.5000 | 1.0000 |\n| macro_f1 | 0.2500 |  |" in card()
    )
    assert "| rows | 7 |" in card()
    assert "table" not in card().split("## Training")[0]


def test_what_was_trained_from_what_is_told() -> None:
    text = card()
    assert "parameters trained: 1,000 (1.00 % of the backbone's)" in text
    assert f"train: 1,234 rows, sha256 `{'0' * 16}…`" in text
    assert "started from `sentiment@1`" in text
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
    assert "`l299`, …; `task.json` has all of them" in text
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


def test_any_table_of_numbers_is_shown_whatever_it_is_called() -> None:
    rows = {"pos": {"z": 2, "f1": 0.5}, "neg": {"f1": None, "precision": 1.0}, "all": {"f1": 0.25}}
    (_, table) = result_tables({"accuracy": 1.0, "my_rows": rows})
    assert table == [
        ["", "precision", "f1", "z"],
        ["neg", "1.0000", "", ""],
        ["pos", "", "0.5000", "2"],
        ["all", "", "0.2500", ""],
    ]
    assert "### My rows on test" in card(replace(MANIFEST, metrics={"test": {"my_rows": rows}}))


@pytest.mark.parametrize(
    "value",
    [{}, {"x": 1}, {"x": {}}, {"x": {"y": "z"}}, {"x": {"y": True}}, [{"x": {"y": 1}}], {"x": {"y": [1]}}],
)
def test_what_is_no_table_of_numbers_is_left_to_task_json(value: object) -> None:
    assert len(result_tables({"accuracy": 1.0, "own": value})) == 1


def test_the_tables_are_those_of_test_and_of_dev_where_test_has_none() -> None:
    one, two = {"a": {"f1": 0.1}}, {"a": {"f1": 0.2}}
    text = card(replace(MANIFEST, metrics={"test": {"own": one}, "dev": {"own": two, "other": two}}))
    assert re.findall("^### .*", text, re.MULTILINE) == ["### Other on dev", "### Own on test"]


def test_a_large_table_shows_the_weakest_and_says_so() -> None:
    labels = [f"l{i:03}" for i in range(99)]
    rows = {label: {"f1": None if i == 0 else i / 99} for i, label in enumerate(reversed(labels))}
    (_, (_, *shown)) = result_tables({"accuracy": 1.0, "per_label": rows}, labels)
    assert [row[0] for row in shown] == labels[:-1][::-1][:40]
    text = card(replace(MANIFEST, metrics={"test": {"per_label": rows}}))
    assert "The 40 with the lowest f1 of 99; `task.json` has the rest." in text


def test_a_large_table_without_scores_shows_the_first() -> None:
    rows = {f"l{i:03}": {"n": i} for i in range(41)}
    (_, (_, *shown)) = result_tables({"accuracy": 1.0, "per_label": rows})
    assert [row[0] for row in shown] == list(rows)[:40]


def test_the_confusion_matrix_is_shown_up_to_twenty_labels() -> None:
    def matrix(side: int) -> dict[str, Any]:
        return {"labels": [f"l{i}" for i in range(side)], "rows": [[i] * side for i in range(side)]}

    (_, table) = result_tables({"accuracy": 1.0, "confusion": matrix(20)})
    assert table[0] == ["", *(f"l{i}" for i in range(20))]
    assert table[2] == ["l1", *["1"] * 20]
    assert len(result_tables({"accuracy": 1.0, "confusion": matrix(21)})) == 1
    text = card(replace(MANIFEST, metrics={"test": {"confusion": matrix(21)}}))
    assert "21 labels are too many to be shown here; `task.json` has the matrix." in text


@pytest.mark.parametrize("rows", [[], [[1]], [[1, 2], [3]], [[1, 2], [3, "x"]], None, {"a": 1}])
def test_a_matrix_that_is_none_is_left_out(rows: object) -> None:
    assert len(result_tables({"accuracy": 1.0, "confusion": {"labels": ["a", "b"], "rows": rows}})) == 1


def test_limits_are_told_as_far_as_they_are_known() -> None:
    assert "no figures" not in card().split("## Limits")[1]
    assert "Trained on 1,234 rows in a language that nobody stated" in card()
    assert "Trained on 1,234 rows in `en`, `de`;" in card(languages=("en", "de"))
    assert "no figures of a test split" in card(replace(MANIFEST, metrics={"dev": {"accuracy": 1.0}}))
    assert "calibrated to" in card(replace(MANIFEST, settings={"threshold": 1})).split("## Limits")[1]


def test_the_size_is_told_where_it_is_known() -> None:
    assert "size" not in card()
    assert "- size of the weights: 0.9 MB (897,716 bytes)" in card(weight_bytes=897_716)


def test_the_picture_is_shown_where_there_is_one() -> None:
    assert "image" not in {token.type for token in tokens_of(card())}
    (image,) = [token for token in tokens_of(card(picture=True)) if token.type == "image"]
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
