"""`POST /v1/predict` over HTTP: answers, and the problems of invalid bodies and inputs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrunk.core.inference.predictor import OneTrunk
from tests.core.serving.conftest import ADAPTERS, Gated, Running, ask

OVERSIZED = "[" * 30_000


def post(service: Running, body: bytes, **headers: str) -> Any:
    return service.client.post(
        "/v1/predict", content=body, headers={"Content-Type": "application/json", **headers}
    )


def test_each_input_has_an_answer_of_each_adapter_in_the_order_asked(
    service: Running, new_trunk: Any
) -> None:
    trunk: OneTrunk = new_trunk(*ADAPTERS)
    texts = ("the film is great", "Ada in London", "", "東京 🙂")
    results = service.predict(*(ask(text, "names", "mood", "mood@1") for text in texts)).json()["results"]
    for text, result in zip(texts, results, strict=True):
        expected = trunk.predict([text], ["names", "mood", "mood@1"])[0]
        for answer, own, name in zip(result["answers"], expected, ("names", "mood", "mood@1"), strict=True):
            assert answer["adapter"] == name
            assert answer["version"] == own.adapter
            assert answer["task"] == ("ner" if name == "names" else "sentiment")
            record = {key: answer[key] for key in answer if key not in ("adapter", "version", "task")}
            assert list(record) == list(own.result)
            assert json.loads(json.dumps(record), parse_float=lambda x: round(float(x), 5)) == json.loads(
                json.dumps(own.result), parse_float=lambda x: round(float(x), 5)
            )


BAD_INPUTS: list[tuple[Any, int, str]] = [
    (3, 422, "must be an object, not a number"),
    (None, 422, "must be an object, not null"),
    ([], 422, "must be an object, not an empty list"),
    ("text", 422, "must be an object, not this string"),
    ({}, 422, "adapters is missing"),
    ({"text": 1, "adapters": ["mood"]}, 422, "text must be a string, not a number"),
    ({"text": None, "adapters": ["mood"]}, 422, "text must be a string, not null"),
    ({"text": "good"}, 422, "adapters is missing"),
    ({"text": "good", "adapters": "mood"}, 422, "adapters must be a list, not this string"),
    ({"text": "good", "adapters": []}, 422, "adapters must have at least 1 item, not an empty list"),
    ({"text": "good", "adapters": ["mood", 1]}, 422, "adapters.1 must be a string, not a number"),
    (
        {"text": "good", "adapters": ["mood"], "adapter": 1},
        422,
        "has the unknown key 'adapter'; known: text, words, adapters",
    ),
    ({"text": "half \ud800", "adapters": ["mood"]}, 422, "half a surrogate pair"),
    (
        {"text": "good", "adapters": ["\ud800"]},
        422,
        "adapters.0 must be a string without half a surrogate pair",
    ),
    ({"text": "good", "adapters": ["x" * 101]}, 422, "adapters.0 must have at most 100 characters"),
    ({"text": "good", "adapters": ["nobody"]}, 404, "adapter 'nobody' is not served"),
    ({"text": "good", "adapters": ["mood", ""]}, 404, "adapter '' is not served"),
    ({"text": "x" * 32769, "adapters": ["mood"]}, 413, "32769 characters"),
    ({"text": "good", "adapters": ["mood"] * 65}, 413, "65 adapters"),
]


@pytest.mark.parametrize(("bad", "status", "detail"), BAD_INPUTS, ids=lambda value: str(value)[:40])
def test_one_bad_input_fails_alone(service: Running, bad: Any, status: int, detail: str) -> None:
    body = json.dumps({"inputs": [ask(), bad, ask("bad", "names")]}).encode()
    answer = post(service, body)
    first, failed, last = answer.json()["results"]
    assert answer.status_code == 200
    assert (first["answers"][0]["version"], last["answers"][0]["version"]) == ("mood@2", "names@1")
    assert failed["error"]["status"] == status
    assert detail in failed["error"]["detail"]


@pytest.mark.parametrize(("bad", "status", "detail"), BAD_INPUTS, ids=lambda value: str(value)[:40])
def test_if_all_inputs_fail_the_response_is_the_problem_of_the_first(
    service: Running, bad: Any, status: int, detail: str
) -> None:
    answer = post(service, json.dumps({"inputs": [bad, 7]}).encode())
    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert detail in problem["detail"]
    assert [error["input"] for error in problem["errors"]] == [0, 1]
    assert problem["errors"][1]["status"] == 422


def test_the_problem_of_an_unknown_adapter_lists_the_served_names(service: Running) -> None:
    problem = service.predict(ask("good", "nobody")).json()
    assert (problem["adapter"], problem["known"]) == ("nobody", sorted(ADAPTERS))


ZOO: list[tuple[bytes, int]] = [
    (b"", 400),
    (b" ", 400),
    (b"{", 400),
    (b'{"inputs": [', 400),
    (b'{"inputs": [}', 400),
    (b"{'inputs': []}", 400),
    (b'{"inputs": [],}', 400),
    (b"\xff\xfe", 400),
    (b'{"inputs": ["\xff"]}', 400),
    (b'{"inputs": ["\xed\xa0\x80"]}', 400),
    ("{}".encode("utf-16"), 400),
    (b"\xef\xbb\xbf{}", 400),
    (b"NaN", 400),
    (b'{"inputs": [NaN]}', 400),
    (b'{"inputs": [-Infinity]}', 400),
    (b'{"inputs": [1e999]}', 400),
    (b'{"inputs": [' + b"1" * 5000 + b"]}", 400),
    (b'{"inputs": [], "inputs": []}', 400),
    (b'{"inputs": [{"text": "a", "text": "b", "adapters": ["mood"]}]}', 400),
    (OVERSIZED.encode(), 400),
    (b'{"a":' * 30_000, 400),
    (b"[" * 100_000, 413),
    (b'{"inputs": ["\x00"]}', 400),
    (b'{"inputs": ["\\x"]}', 400),
    (b'{"inputs": ["\\u12"]}', 400),
    (b"{} {}", 400),
    (b"null", 422),
    (b"true", 422),
    (b"3", 422),
    (b'"inputs"', 422),
    (b"[]", 422),
    (b"{}", 422),
    (b'{"inputs": null}', 422),
    (b'{"inputs": {}}', 422),
    (b'{"inputs": "text"}', 422),
    (b'{"inputs": []}', 422),
    (b'{"inputs": [], "more": 1}', 422),
    (b'{"input": [{"text": "a", "adapters": ["mood"]}]}', 422),
    (b'{"inputs": [' + b"1," * 255 + b"1]}", 422),
    (b'{"inputs": [' + b"1," * 256 + b"1]}", 413),
    (b'{"inputs": [1e308, 123456789012345678901234567890]}', 422),
]


@pytest.mark.parametrize(("body", "status"), ZOO, ids=lambda value: repr(value)[:40])
def test_an_invalid_body_is_answered_with_its_problem(service: Running, body: bytes, status: int) -> None:
    answer = post(service, body)
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_the_problem_of_malformed_json_has_line_and_column(service: Running) -> None:
    problem = post(service, b'{"inputs":\n [1, }').json()
    assert problem["type"] == "/problems/malformed-json"
    assert "line 2, column 6" in problem["detail"]


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["inputs", "text", "adapters", "x"]) | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(value=JSONS | st.fixed_dictionaries({"inputs": st.lists(JSONS, max_size=4)}))
def test_no_json_value_causes_a_server_error(service: Running, value: Any) -> None:
    answer = post(service, json.dumps(value).encode())
    assert answer.status_code in (200, 400, 404, 413, 422)
    answer.json()


@settings(max_examples=150)
@given(body=st.binary(max_size=200))
def test_no_bytes_cause_a_server_error(service: Running, body: bytes) -> None:
    assert post(service, body).status_code in (400, 422)


def test_a_content_type_may_have_parameters_and_capitals(service: Running) -> None:
    body = json.dumps({"inputs": [ask()]}).encode()
    kind = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert service.client.post("/v1/predict", content=body, headers=kind).status_code == 200


def test_a_compressed_body_is_refused(service: Running) -> None:
    answer = post(service, b"\x1f\x8b", **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["detail"]) == (
        415,
        "the body is compressed; send it without Content-Encoding",
    )


def test_what_a_plugin_raises_fails_its_text_alone(gated: Any) -> None:
    held: Gated = gated()
    answer = held.service.predict(ask("bomb"), ask("the film is good"))
    failed, good = answer.json()["results"]
    assert (failed["error"]["type"], failed["error"]["version"]) == ("/problems/internal", "mood@2")
    assert good["answers"][0]["label"] == "positive"
    assert "boom" not in answer.text


def test_an_answer_that_is_not_json_fails_its_text_alone(gated: Any) -> None:
    held: Gated = gated()
    failed, good = held.service.predict(ask("nan"), ask("good")).json()["results"]
    assert failed["error"]["type"] == "/problems/internal"
    assert good["answers"][0]["version"] == "mood@2"


def test_the_text_of_an_entity_is_the_part_between_its_offsets(service: Running) -> None:
    text = "Ada in London ÄÖ"
    found = service.predict(ask(text, "names")).json()["results"][0]["answers"][0]["entities"]
    assert found
    assert [each["text"] for each in found] == [text[each["start"] : each["end"]] for each in found]


def test_a_request_with_very_many_answers_gets_all_of_them(service: Running) -> None:
    results = service.predict(*[ask("good film", *["mood", "names"] * 32)] * 20).json()["results"]
    assert [len(result["answers"]) for result in results] == [64] * 20
