"""Long training texts: divided at words, or cut where they have one label; a note says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.backbones.tokenization import MAX_CHARACTERS, Encoded
from onetrunk.core.errors import DataError, PredictionFailed
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.tasks import Example, Record
from onetrunk.core.training.encoded_dataset import EncodedDataset, encode_dataset
from onetrunk.core.training.long_texts import TextLimit

TASKS = PluginHost.discover().tasks
NER_LABELS = ("O", "B-PER", "I-PER")


def encoded(bert: Backbone, task: str, *records: Record) -> EncodedDataset:
    spec, labels = TASKS[task], NER_LABELS if task == "ner" else ("neg", "pos")
    examples = [replace(spec.read(record), where=f"f:{i}") for i, record in enumerate(records, 1)]
    return encode_dataset(spec, bert, examples, labels)


def content(text: Encoded) -> list[int]:
    """Return the ids of a text without its special tokens."""
    rows = zip(text.join_window[1:-1], text.join_row[1:-1], strict=True)
    return [int(text.windows[window][row]) for window, row in rows]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["ada", "ünïcödé", "x" * 40, "🙂", "a-b"]), min_size=1, max_size=400))
def test_a_long_text_of_words_becomes_texts_with_all_of_its_words_tokens_and_targets(
    bert: Backbone, words: list[str]
) -> None:
    tags = ["B-PER" if i % 3 == 0 else "O" for i in range(len(words))]
    whole = encoded(bert, "ner", {"words": words, "tags": tags}, {"words": ["ada"], "tags": ["O"]})
    parts, notes = TextLimit(bert.encoder, TASKS["ner"], 1).apply(whole)
    assert all(len(text.windows) == 1 for text in parts.encoded)
    assert [i for text in parts.encoded for i in content(text)] == [
        i for text in whole.encoded for i in content(text)
    ]
    assert sum(parts.targets, ()) == sum(whole.targets, ())
    assert [len(text.words) for text in parts.encoded] == [len(own) for own in parts.targets]
    first = [content(text)[row - 1] for text in parts.encoded for row in text.words]
    assert first == [content(text)[row - 1] for text in whole.encoded for row in text.words]
    assert len(notes) == (len(whole.encoded[0].windows) > 1)


def test_of_a_long_text_with_one_label_the_beginning_is_kept_and_a_note_says_so(bert: Backbone) -> None:
    whole = encoded(
        bert, "sentiment", {"text": "good", "label": "pos"}, {"text": "a good room " * 200, "label": "pos"}
    )
    cut, (note,) = TextLimit(bert.encoder, TASKS["sentiment"], 2).apply(whole)
    assert [len(text.windows) for text in cut.encoded] == [1, 2]
    kept = content(cut.encoded[1])
    assert kept == content(whole.encoded[1])[: len(kept)]
    assert len(kept) == bert.encoder.most_tokens(2)
    assert (note.kind, note.count, note.where) == ("long-texts", 1, "f:2")
    assert "training reads the beginning of such a text" in note.message


def test_texts_within_the_limit_are_left_alone_without_a_note(bert: Backbone) -> None:
    whole = encoded(bert, "sentiment", {"text": "a good room " * 200, "label": "pos"})
    windows = len(whole.encoded[0].windows)
    assert TextLimit(bert.encoder, TASKS["sentiment"], windows).apply(whole) == (whole, [])


def test_a_long_text_whose_targets_cannot_be_divided_is_refused_with_file_and_line(bert: Backbone) -> None:
    whole = encoded(bert, "ner", {"words": ["ada"] * 400, "tags": ["O"] * 400})
    span = EncodedDataset(whole.examples, whole.encoded, ((3, 5),))
    with pytest.raises(DataError, match=r"^f:1: the text has \d+ windows, at most 1 are trained on"):
        TextLimit(bert.encoder, TASKS["ner"], 1).apply(span)


@pytest.mark.parametrize("task", ["ner", "sentiment"])
def test_training_on_a_long_text_ends_with_a_note_and_the_adapter_reads_all_of_a_text(
    train_tiny: Callable[..., Any], bert: Backbone, tmp_path: Path, task: str
) -> None:
    rows: dict[str, list[Record]] = {
        "ner": [{"words": ["ada", "room"] * 300, "tags": ["B-PER", "O"] * 300}] * 2,
        "sentiment": [{"text": "good " * 600, "label": "pos"}, {"text": "bad", "label": "neg"}],
    }
    store = Store(tmp_path)
    result = train_tiny(store, task, bert, rows=rows[task], max_windows=1)
    assert "long-texts" in [note.kind for note in result.notes]
    trunk = OneTrunk(bert, store=store)
    trunk.load(task)
    ((answer,),) = trunk.predict(["ada room " * 300], [task])
    if task == "ner":
        assert answer.result["entities"][-1]["end"] > 1500


# Texts that are too long to read


def test_a_text_beyond_the_limit_is_refused_in_data_with_file_and_line(bert: Backbone) -> None:
    spec = TASKS["sentiment"]
    long = Example("a" * (MAX_CHARACTERS + 1), "pos", where="rows.jsonl:7")
    with pytest.raises(
        DataError, match=r"^rows\.jsonl:7: the text has 2,000,001 characters, at most 2,000,000"
    ):
        encode_dataset(spec, bert, [long], ("neg", "pos"))


def test_a_text_beyond_the_limit_is_refused_after_the_answers_to_the_texts_before_it(
    train_tiny: Callable[..., Any], bert: Backbone, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    train_tiny(store, "sentiment", bert, epochs=1)
    trunk = OneTrunk(bert, store=store)
    trunk.load("sentiment")
    answers = trunk.predict_stream(["good", "bad", "a" * (MAX_CHARACTERS + 1), "good"], ["sentiment"])
    assert [next(answers)[0].text, next(answers)[0].text] == ["good", "bad"]
    with pytest.raises(PredictionFailed, match=r"^text 3: .*the text has 2,000,001 characters") as caught:
        next(answers)
    assert caught.value.index == 2


def test_a_long_text_has_the_same_logits_in_parts_as_in_one_batch(bert: Backbone) -> None:
    from onetrunk.core.inference.logits import LogitsRequest, compute_logits
    from onetrunk.core.training.settings import TrainSettings
    from onetrunk.core.training.trainable import TrainableAdapter
    from onetrunk.core.trunk.build import trunk_of

    trunk = trunk_of(bert)
    for task, labels in (("ner", NER_LABELS), ("sentiment", ("neg", "pos"))):
        adapter = TrainableAdapter(TASKS[task], labels, bert, trunk, TrainSettings(rank=4)).adapter("x")
        spec, words = TASKS[task], "ada likes rooms " * 200
        (text,) = bert.encoder.encode([words], [spec.spans(Example(words))])
        parts, whole = (
            compute_logits(trunk, [adapter], [LogitsRequest(text, 0)], most)[0] for most in (64, 100_000)
        )
        np.testing.assert_allclose(parts, whole, atol=1e-5)
