"""Inputs with `words` in place of `text`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrunk.core.client import Client
from onetrunk.core.serving.engine.requests import TextRequest
from tests.core.serving.conftest import Running, Serve

WORDS = ["Ada", "Lovelace", "loves", "London-Paris", "🙂", "."]


def words(given: Any, *adapters: str) -> dict[str, Any]:
    return {"words": given, "adapters": list(adapters or ("names",))}


@given(st.lists(st.text(min_size=1), max_size=20))
def test_the_spans_are_the_words_in_the_text_that_they_make(given: list[str]) -> None:
    request = TextRequest.of_words(given, ("names",))
    assert [request.text[start:end] for start, end in request.words] == given
    assert request.text == " ".join(given)


def test_entities_have_the_borders_of_the_words_that_were_given(service: Running) -> None:
    response = service.predict(words(WORDS))
    assert response.status_code == 200, response.text
    (answer,) = response.json()["results"][0]["answers"]
    text = " ".join(WORDS)
    starts = {0, 4, 13, 19, 32, 34}
    assert answer["task"] == "ner"
    for entity in answer["entities"]:
        assert entity["start"] in starts
        assert text[entity["start"] : entity["end"]] == entity["text"]


def test_a_task_of_texts_answers_as_for_the_text(service: Running) -> None:
    text = {"text": "the film is great", "adapters": ["mood"]}
    first, second = service.predict(words(["the", "film", "is", "great"], "mood"), text).json()["results"]
    assert first["answers"][0]["label"] == second["answers"][0]["label"]
    assert first["answers"][0]["score"] == pytest.approx(second["answers"][0]["score"], abs=1e-5)


@pytest.mark.parametrize("given", [[], ["a"], ["\u00a0"], ["\u200b", "a"], ["New York", "is"], ["🙂" * 3]])
def test_odd_words_are_answered(service: Running, given: list[str]) -> None:
    (result,) = service.predict(words(given, "names", "mood")).json()["results"]
    assert len(result["answers"]) == 2, result


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ({"text": "a", "words": ["a"]}, "has both text and words; give one of them"),
        ({}, "must have text or words"),
        ({"words": ["a", ""]}, "words.1"),
        ({"words": "a b"}, "words must be a list"),
        ({"words": ["a", 7]}, "words.1 must be a string"),
        ({"words": None}, "words must be a list"),
        ({"words": ["\ud800"]}, "words.0"),
    ],
)
def test_wrong_words_are_refused_with_their_place(service: Running, value: Any, detail: str) -> None:
    body = json.dumps({"inputs": [{**value, "adapters": ["names"]}]})
    response = service.client.post("/v1/predict", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422, response.text
    assert detail in response.json()["detail"]


def test_words_are_bounded_as_texts_are(serve: Serve) -> None:
    with serve(characters=50) as service:
        response = service.predict(words(["word"] * 11))
        assert response.status_code == 413
        assert response.json()["detail"].startswith("the text has 54 characters, at most 50 are allowed")
        assert service.predict(words(["a"] * 25)).status_code == 200


def test_a_text_of_the_largest_size_can_be_given_as_words(service: Running) -> None:
    line = json.dumps(words(["a"] * 3000)).encode() + b"\n"
    response = service.client.post(
        "/v1/predict/stream", content=line, headers={"Content-Type": "application/x-ndjson"}
    )
    assert "answers" in json.loads(response.content), response.text[:200]


def test_the_client_takes_lists_of_words(service: Running) -> None:
    with Client(service.url) as client:
        found = client.predict([WORDS, "Ada"], ["names"])
        streamed = list(client.predict_stream([WORDS, "Ada"], ["names"]))
    assert [each[0].text for each in found] == [" ".join(WORDS), "Ada"]
    assert [[own.to_json() for own in each] for each in streamed] == [
        [own.to_json() for own in each] for each in found
    ]


@pytest.mark.parametrize("texts", [[["a", 7]], [7], "a", [None]])
def test_the_client_refuses_other_types(texts: Any) -> None:
    with (
        Client("http://127.0.0.1:9") as client,
        pytest.raises(TypeError, match="texts must be a list of str"),
    ):
        client.predict(texts, ["names"])


def test_the_document_names_the_unit_of_offsets(service: Running) -> None:
    schemas = service.client.get("/openapi.json").json()["components"]["schemas"]
    assert "Unicode characters (code points)" in schemas["AnswerRecord"]["description"]
    given = schemas["PredictRequest"]["properties"]["inputs"]["items"]
    assert "Unicode characters (code points)" in given["description"]


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_offsets_count_unicode_characters(service: Running, text: str) -> None:
    given = f"{text} Ada Lovelace"
    (result,) = service.predict({"text": given, "adapters": ["names"]}).json()["results"]
    for entity in result["answers"][0]["entities"]:
        assert given[entity["start"] : entity["end"]] == entity["text"]
