"""`predict`, `predict_stream` and `evaluate`: one result for each text and adapter, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch

from onetrunk.adapters.store.store import Store
from onetrunk.core import OneTrunk
from onetrunk.core.data.dataset import Dataset, content_sha256
from onetrunk.core.errors import DataError
from onetrunk.core.inference.predictor import CHUNK
from onetrunk.core.tasks import Record
from tests.core.inference.predictions import TASKS, Texts, same

ODD = ["", " ", "\u200b", "🙂", "x" * 5000, "good " * 400, "東京 film", "a\x00b", "half \ud83d pair"]


def test_every_text_gets_a_prediction_of_every_adapter_in_the_order_given(
    trunk: OneTrunk, some_texts: Texts
) -> None:
    texts = some_texts(20)
    found = trunk.predict(texts, ["sentiment", "ner", "intent"])
    assert [[p.text for p in row] for row in found] == [[text] * 3 for text in texts]
    assert {tuple(p.adapter for p in row) for row in found} == {("sentiment@3", "ner@1", "intent@1")}


@pytest.mark.parametrize("batch_tokens", [1, 50, 10**9])
def test_texts_and_tasks_in_one_batch_get_what_they_get_alone(
    trunk: OneTrunk, some_texts: Texts, batch_tokens: int
) -> None:
    texts = [*some_texts(20), *ODD]
    mixed = trunk.predict(texts, TASKS, batch_tokens=batch_tokens)
    for text, row in zip(texts, mixed, strict=True):
        for task, found in zip(TASKS, row, strict=True):
            ((alone,),) = trunk.predict([text], [task])
            assert same(found, alone)


@pytest.mark.parametrize("asked", [("ner",), TASKS, ("intent", "intent")])
def test_a_batch_on_several_threads_gives_the_predictions_of_one_thread(
    trunk: OneTrunk, some_texts: Texts, asked: tuple[str, ...]
) -> None:
    texts, before = [*some_texts(200), "good " * 900], torch.get_num_threads()
    found = {}
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found[threads] = trunk.predict(texts, asked)
    finally:
        torch.set_num_threads(before)
    for parallel, single in zip(found[2], found[1], strict=True):
        assert all(map(same, parallel, single))


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_every_odd_text_gets_a_json_answer_with_exact_offsets(trunk: OneTrunk, text: str) -> None:
    (row,) = trunk.predict([text], TASKS)
    for prediction in row:
        assert json.loads(json.dumps(prediction.to_json())) == prediction.to_json()
    for entity in row[0].result["entities"]:
        assert entity["text"] == text[entity["start"] : entity["end"]]
        assert entity["text"].strip()


def test_no_text_gets_no_answer(trunk: OneTrunk) -> None:
    assert trunk.predict([], TASKS) == []


def test_no_adapter_gives_each_text_an_empty_row(trunk: OneTrunk) -> None:
    assert trunk.predict(["a", "b"], []) == [[], []]


def test_the_same_text_and_the_same_adapter_may_be_asked_twice(trunk: OneTrunk) -> None:
    first, second = trunk.predict(["good", "good"], ["ner", "ner"])
    assert len(first) == 2
    assert first == second


def test_a_stream_is_answered_in_order_and_read_as_it_goes(trunk: OneTrunk) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"good {read}"

    answers = trunk.predict_stream(endless(), ["sentiment"])
    assert [next(answers)[0].text for _ in range(3)] == ["good 1", "good 2", "good 3"]
    assert read == CHUNK


def test_a_string_is_refused_as_texts(trunk: OneTrunk) -> None:
    with pytest.raises(TypeError, match="texts must be a list of strings"):
        trunk.predict("good film", ["ner"])


def test_a_generator_is_refused_as_texts(trunk: OneTrunk) -> None:
    with pytest.raises(TypeError, match="texts must be a list of strings"):
        trunk.predict((text for text in ["good film"]), ["ner"])  # type: ignore[arg-type]


def test_a_string_is_refused_as_adapters(trunk: OneTrunk) -> None:
    with pytest.raises(TypeError, match="adapters must be a list of strings"):
        trunk.predict(["good film"], "ner")


def test_a_text_that_is_not_a_string_is_refused(trunk: OneTrunk) -> None:
    with pytest.raises(TypeError, match="texts must be a list of strings"):
        trunk.predict([None], ["ner"])  # type: ignore[list-item]


def test_metrics_of_a_loaded_adapter_are_those_of_its_training(
    trunk: OneTrunk, store: Store, records: dict[str, list[Record]]
) -> None:
    from onetrunk.adapters.format.artifact import read_manifest

    for task in TASKS:
        spec = trunk.host.task(task)
        examples = tuple(map(spec.read, records[task]))
        found = trunk.evaluate(task, Dataset(examples, "rows", content_sha256(examples)))
        assert found == read_manifest(store.resolve(task).path).metrics["dev"]


def test_a_label_that_the_adapter_lacks_is_refused(trunk: OneTrunk) -> None:
    examples = (trunk.host.task("sentiment").read({"text": "a", "label": "strange"}),)
    with pytest.raises(DataError, match="unknown label 'strange'"):
        trunk.evaluate("sentiment", Dataset(examples, "rows", content_sha256(examples)))
