"""The requests that the clients send, and the results they return for them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from itertools import islice
from typing import Any

import pytest

from onetrunk.core.client import (
    AnswerError,
    Client,
    ClientError,
    Prediction,
    ServiceError,
    ServiceUnreachable,
)
from onetrunk.core.errors import UsageError
from tests.core.client.answers import Ask, echo, labels, mood, result
from tests.peer import Peer, Said, lines, problem, said


def test_predict_gives_a_prediction_for_each_text_and_adapter(ask: Ask, peer: Peer) -> None:
    names = {"adapter": "names", "version": "names@1", "task": "ner", "entities": []}
    peer.says(said({"results": [result(mood(), names), result(mood("negative"), names)]}))
    found = ask("predict", ["good", "bad"], ["mood@prod", "names"])
    assert found == [
        [
            Prediction(text, "mood@2", {"label": label, "score": 0.5}),
            Prediction(text, "names@1", {"entities": []}),
        ]
        for text, label in (("good", "positive"), ("bad", "negative"))
    ]
    (asked,) = peer.asked
    assert (asked.method, asked.path) == ("POST", "/v1/predict")
    assert asked.headers["Content-Type"] == "application/json"
    expected = [{"text": text, "adapters": ["mood@prod", "names"]} for text in ("good", "bad")]
    assert asked.json == {"inputs": expected}


def test_a_record_keeps_its_keys_in_their_order(ask: Ask, peer: Peer) -> None:
    peer.says(said({"results": [result({"version": "t@1", "z": 1, "adapter": "t", "a": 2, "task": "t"})]}))
    ((found,),) = ask("predict", ["x"], ["t"])
    assert list(found.to_json()) == ["text", "adapter", "z", "a"]


def test_an_empty_list_of_texts_sends_no_request(ask: Ask, peer: Peer) -> None:
    assert ask("predict", [], ["mood"]) == []
    assert ask("predict_stream", [], ["mood"]) == []
    assert peer.asked == []


@pytest.mark.parametrize("texts", ["good", 7, ["good", 7], (text for text in ("good",))])
def test_texts_that_are_not_a_list_of_strings_raise_type_error(ask: Ask, texts: Any) -> None:
    with pytest.raises(TypeError, match="texts must be a list of strings"):
        ask("predict", texts, ["mood"])


def test_a_stream_needs_a_list_of_adapters_and_strings(ask: Ask) -> None:
    with pytest.raises(TypeError, match="adapters must be a list of strings"):
        ask("predict_stream", ["good"], "mood")
    with pytest.raises(TypeError, match="texts must be strings"):
        ask("predict_stream", [7], ["mood"])


def test_a_text_with_a_lone_surrogate_is_refused_and_quoted(ask: Ask) -> None:
    with pytest.raises(UsageError, match=r"the text has a lone surrogate, which cannot be sent.*caf\\udce9"):
        ask("predict", ["caf\udce9"], ["mood"])


@pytest.mark.parametrize(
    ("method", "arguments", "way", "expected", "request_"),
    [
        ("status", (), said({"status": "ready"}), {"status": "ready"}, ("GET", "/v1/status", b"")),
        ("adapters", (), said({"adapters": [{"name": "a"}]}), [{"name": "a"}], ("GET", "/v1/adapters", b"")),
        ("adapter", ("a@b",), said({"name": "a@b"}), {"name": "a@b"}, ("GET", "/v1/adapters/a%40b", b"")),
        (
            "load",
            ("a", "org/a@v2"),
            said({"name": "a", "previous": None}, 201),
            {"name": "a", "previous": None},
            ("PUT", "/v1/adapters/a", b'{"ref": "org/a@v2"}'),
        ),
        ("unload", ("a",), Said(status=204), None, ("DELETE", "/v1/adapters/a", b"")),
    ],
)
def test_each_other_method_sends_one_request(
    ask: Ask, peer: Peer, method: str, arguments: Any, way: Said, expected: Any, request_: Any
) -> None:
    peer.says(way)
    assert ask(method, *arguments) == expected
    (asked,) = peer.asked
    assert (asked.method, asked.path, asked.body) == request_


@pytest.mark.parametrize("name", ["", "../status", "a/b", "a?b", "é", "x" * 101])
@pytest.mark.parametrize("method", ["adapter", "load", "unload"])
def test_an_invalid_adapter_name_is_not_sent(ask: Ask, peer: Peer, method: str, name: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a served adapter"):
        ask(method, name, *(["ner@1"] if method == "load" else []))
    assert peer.asked == []


def test_a_client_may_be_shared_between_threads(peer: Peer) -> None:
    peer.says(echo)
    found: dict[int, list[str]] = {}
    with Client(peer.url) as client:

        def run(number: int) -> None:
            texts = [f"{number} {each}" for each in range(20)]
            found[number] = labels(list(client.predict_stream(texts, ["mood"], chunk=3)))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {number: [f"{number} {each}" for each in range(20)] for number in range(8)}


def test_a_text_that_fails_is_named(ask: Ask, peer: Peer) -> None:
    failed = {"error": {"type": "/problems/text-too-long", "status": 422, "detail": "too long", "most": 9}}
    peer.says(said({"results": [result(mood()), failed]}))
    with pytest.raises(ServiceError, match="text 2: too long") as caught:
        ask("predict", ["a", "b"], ["mood"])
    assert (caught.value.input, caught.value.type, caught.value.problem["most"]) == (1, "text-too-long", 9)


def test_where_every_text_fails_the_first_is_named(ask: Ask, peer: Peer) -> None:
    peer.says(problem(404, "unknown-adapter", "no adapter 'x'", errors=[{"input": 0, "status": 404}]))
    with pytest.raises(ServiceError, match="text 1: no adapter 'x'") as caught:
        ask("predict", ["a"], ["x"])
    assert caught.value.input == 0


def test_a_text_of_a_stream_that_fails_is_counted_from_the_first_of_all(peer: Peer) -> None:
    failed = {"error": {"type": "/problems/text-too-long", "status": 422, "detail": "too long", "line": 1}}
    peer.says(echo, echo, lines(failed, result(mood("e"))))
    with Client(peer.url) as client:
        answers = client.predict_stream("abcdef", ["mood"], chunk=2)
        assert labels(list(islice(answers, 4))) == list("abcd")
        with pytest.raises(ServiceError, match="text 5: too long") as caught:
            next(answers)
    assert caught.value.input == 4


def test_every_error_is_a_client_error() -> None:
    assert {AnswerError.__base__, ServiceError.__base__, ServiceUnreachable.__base__} == {ClientError}


def test_the_client_loads_no_torch() -> None:
    script = "import sys, onetrunk.core.client; print(*{'torch', 'transformers', 'numpy', 'peft'} & {*sys.modules})"
    line = [sys.executable, "-c", script]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == ""
