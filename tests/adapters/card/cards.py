"""A manifest, its card, and what readers of YAML and Markdown find in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from huggingface_hub import ModelCard
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from onetrunk.adapters.card import CardFacts, CardMetadata, render_card
from onetrunk.adapters.format.manifest import (
    SCHEMA,
    BackboneRecord,
    DataRecord,
    Manifest,
    Parameters,
    PluginRecord,
    Probe,
    Recipe,
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


def facts(manifest: Manifest = MANIFEST, recipe: Recipe | None = "cls", **more: Any) -> CardFacts:
    metadata = {key: more.pop(key) for key in ("license", "languages", "datasets") if key in more}
    given = {"name": "mood", "summary": "one label a text", **more}
    return CardFacts(**given, manifest=replace(manifest, recipe=recipe), metadata=CardMetadata(**metadata))


def card(manifest: Manifest = MANIFEST, recipe: Recipe | None = "cls", **more: Any) -> str:
    return render_card(facts(manifest, recipe, **more))


def on_hub(manifest: Manifest = MANIFEST, recipe: Recipe | None = "cls") -> str:
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


def code_of(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?\n)```$", text, re.DOTALL | re.MULTILINE)
