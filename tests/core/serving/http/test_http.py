"""The routes over real HTTP: what each answers, and what becomes of requests that are none."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetrunk.adapters.store.store import Store
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.errors import UsageError
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.serving.http.auth import Access, Grant
from onetrunk.core.serving.http.json_log import EventLog
from onetrunk.core.serving.http.problems import PROBLEMS
from tests.core.serving.conftest import ADAPTERS, Gated, Running, Serve, ask, running

JSON = {"Content-Type": "application/json"}
OVERSIZED = "[" * 30_000


def post(service: Running, body: bytes, **headers: str) -> Any:
    return service.client.post("/v1/predict", content=body, headers={**JSON, **headers})


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
    ({}, 422, "text is missing; adapters is missing"),
    ({"text": 1, "adapters": ["mood"]}, 422, "text must be a string, not a number"),
    ({"text": None, "adapters": ["mood"]}, 422, "text must be a string, not null"),
    ({"text": "good"}, 422, "adapters is missing"),
    ({"text": "good", "adapters": "mood"}, 422, "adapters must be a list, not this string"),
    ({"text": "good", "adapters": []}, 422, "adapters must have at least 1 item, not an empty list"),
    ({"text": "good", "adapters": ["mood", 1]}, 422, "adapters.1 must be a string, not a number"),
    (
        {"text": "good", "adapters": ["mood"], "adapter": 1},
        422,
        "has the unknown key 'adapter'; known: text, adapters",
    ),
    ({"text": "half \ud800", "adapters": ["mood"]}, 422, "half a surrogate pair"),
    (
        {"text": "good", "adapters": ["\ud800"]},
        422,
        "adapters.0 must be a string without half a surrogate pair",
    ),
    ({"text": "good", "adapters": ["x" * 101]}, 422, "adapters.0 must have at most 100 characters"),
    ({"text": "good", "adapters": ["nobody"]}, 404, "no adapter 'nobody' is served"),
    ({"text": "good", "adapters": ["mood", ""]}, 404, "no adapter '' is served"),
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
def test_where_all_inputs_fail_the_response_is_the_first_ones_problem(
    service: Running, bad: Any, status: int, detail: str
) -> None:
    answer = post(service, json.dumps({"inputs": [bad, 7]}).encode())
    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert detail in problem["detail"]
    assert [error["input"] for error in problem["errors"]] == [0, 1]
    assert problem["errors"][1]["status"] == 422


def test_an_unknown_adapter_is_answered_with_what_is_known(service: Running) -> None:
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
def test_what_is_no_request_is_told_so(service: Running, body: bytes, status: int) -> None:
    answer = post(service, body)
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_malformed_json_is_told_with_line_and_column(service: Running) -> None:
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
def test_no_json_whatsoever_is_the_service_s_fault(service: Running, value: Any) -> None:
    answer = post(service, json.dumps(value).encode())
    assert answer.status_code in (200, 400, 404, 413, 422)
    answer.json()


@settings(max_examples=150)
@given(body=st.binary(max_size=200))
def test_no_bytes_whatsoever_are_the_service_s_fault(service: Running, body: bytes) -> None:
    assert post(service, body).status_code in (400, 422)


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"],
)
@pytest.mark.parametrize("path", ["/v1/predict", "/v1/predict/stream", "/v1/adapters/mood"])
def test_another_media_type_is_refused(service: Running, kind: str, path: str) -> None:
    method = "PUT" if path.endswith("mood") else "POST"
    answer = service.client.request(
        method, path, content=b"{}", headers={"Content-Type": kind} if kind else {}
    )
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")


def test_a_media_type_may_have_parameters_and_capitals(service: Running) -> None:
    body = json.dumps({"inputs": [ask()]}).encode()
    kind = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert service.client.post("/v1/predict", content=body, headers=kind).status_code == 200


def test_a_compressed_body_is_refused(service: Running) -> None:
    answer = post(service, b"\x1f\x8b", **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["detail"]) == (
        415,
        "the body is compressed; send it without Content-Encoding",
    )


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/predict", "POST"),
        ("DELETE", "/v1/predict/stream", "POST"),
        ("POST", "/v1/adapters/mood", "DELETE, GET, HEAD, PUT"),
        ("PATCH", "/v1/adapters", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
    ],
)
def test_another_method_is_refused_with_those_there_are(
    service: Running, method: str, path: str, allow: str
) -> None:
    answer = service.client.request(method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allow)
    assert answer.json()["type"] == "/problems/method-not-allowed"


@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/v1/adapters/", "/v1/predict/", "/v1/adapters/a/b"])
def test_a_path_that_is_not_there_is_told_so(service: Running, path: str) -> None:
    answer = service.client.get(path)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


@pytest.mark.parametrize("name", ["nobody", "a%2Fb", "%00", "é", "x" * 90, "..%2f..", "%ff"])
def test_an_adapter_that_is_not_there_is_told_so(service: Running, name: str) -> None:
    for method in ("GET", "DELETE"):
        assert service.client.request(method, f"/v1/adapters/{name}").status_code in (404, 422)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", "x"]
)
@pytest.mark.parametrize("path", ["/v1/predict", "/v1/status", "/", "/metrics"])
def test_without_tokens_only_loopback_names_are_answered(service: Running, host: str, path: str) -> None:
    answer = service.client.request("GET" if path != "/v1/predict" else "POST", path, headers={"Host": host})
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.9.9.9:1", "[::1]:8000", "::1"]
)
def test_every_loopback_name_is_answered(service: Running, host: str) -> None:
    expected = 200 if host != "::1" else 403  # an address of version 6 stands in brackets there
    assert service.client.get("/healthz", headers={"Host": host}).status_code == expected


@pytest.mark.parametrize("path", ["/", "/docs", "/v1/status", "/nowhere", "/v1/predict", "/openapi.json"])
def test_every_response_has_its_id_and_the_security_headers(service: Running, path: str) -> None:
    headers = service.client.get(path).headers
    assert len(headers["X-Request-Id"]) == 16
    assert headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    assert "server" not in headers


def test_a_problem_has_the_id_of_its_request(service: Running) -> None:
    answer = service.client.get("/nowhere")
    assert answer.json()["instance"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/status", "/docs"])
def test_head_is_answered_as_get_without_a_body(service: Running, path: str) -> None:
    answer = service.client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


def test_adapters_are_listed_by_name_with_all_that_is_known(service: Running) -> None:
    service.predict(ask())
    listed = service.client.get("/v1/adapters").json()["adapters"]
    assert [each["name"] for each in listed] == sorted(ADAPTERS)
    mood = listed[0]
    assert (mood["version"], mood["ref"], mood["task"], mood["tier"]) == (
        "mood@2",
        "mood",
        "sentiment",
        "device",
    )
    assert mood["labels"] == ["negative", "positive"]
    assert mood["since"].endswith("Z")
    assert mood["requests"] >= 1
    assert mood["p95_ms"] > 0
    assert service.client.get("/v1/adapters/mood").json().keys() == mood.keys()


def test_the_status_tells_of_backbone_queue_and_limits(service: Running) -> None:
    status = service.client.get("/v1/status").json()
    assert (status["status"], status["device"], status["precision"], status["adapters"]) == (
        "ready",
        "cpu",
        "fp32",
        3,
    )
    assert status["backbone"] == "tiny"  # not where its folder is
    assert status["queue"]["tokens"] == 0
    assert status["limits"]["max_inputs"] == 256


def test_a_load_a_swap_and_an_unload(serve: Any) -> None:
    with serve() as service:
        put = service.client.put
        assert service.predict(ask("good", "new")).status_code == 404
        loaded = put("/v1/adapters/new", json={"ref": "mood@1"})
        assert (loaded.status_code, loaded.json()["previous"], loaded.json()["version"]) == (
            201,
            None,
            "mood@1",
        )
        swapped = put("/v1/adapters/new", json={"ref": "mood@2"})
        assert (swapped.status_code, swapped.json()["previous"]) == (200, "mood@1")
        answer = service.predict(ask("good", "new")).json()["results"][0]["answers"][0]
        assert (answer["adapter"], answer["version"]) == ("new", "mood@2")
        gone = service.client.delete("/v1/adapters/new")
        assert (gone.status_code, gone.content) == (204, b"")
        assert service.client.delete("/v1/adapters/new").status_code == 404
        events = [(event["event"], event.get("version")) for event in service.events()]
        assert [event for event in events if event[0] not in ("request", "serving")] == [
            ("loaded", "mood@1"),
            ("loaded", "mood@2"),
            ("unloaded", None),
        ]


@pytest.mark.parametrize(
    ("ref", "status", "kind"),
    [
        ("mood@9", 404, "unknown-reference"),
        ("nobody", 404, "unknown-reference"),
        ("file:///nowhere/at/all", 404, "unknown-reference"),
        ("Mood!", 422, "invalid-request"),
        ("", 422, "invalid-request"),
        ("x" * 5000, 422, "invalid-request"),
        ("\ud800", 422, "invalid-request"),
        (3, 422, "invalid-request"),
        (None, 422, "invalid-request"),
    ],
    ids=lambda value: str(value)[:20].encode("ascii", "replace").decode(),
)
def test_a_load_that_fails_changes_nothing(service: Running, ref: Any, status: int, kind: str) -> None:
    body = json.dumps({"ref": ref}).encode()
    answer = service.client.put("/v1/adapters/mood", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}")
    assert service.client.get("/v1/adapters/mood").json()["version"] == "mood@2"


@pytest.mark.parametrize("name", [".hidden", "-x", "x%20y", "é", "x" * 101, "a%2Bb"])
def test_an_adapter_cannot_serve_under_an_odd_name(service: Running, name: str) -> None:
    answer = service.client.put(f"/v1/adapters/{name}", json={"ref": "mood"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")


def test_what_a_plugin_raises_fails_its_text_alone(gated: Any) -> None:
    held: Gated = gated()
    answer = held.service.predict(ask("bomb"), ask("good"))
    failed, good = answer.json()["results"]
    assert (failed["error"]["type"], failed["error"]["version"]) == ("/problems/internal", "mood@2")
    assert good["answers"][0]["label"] == "positive"
    assert "boom" not in answer.text


def test_an_answer_that_is_no_json_fails_its_text_alone(gated: Any) -> None:
    held: Gated = gated()
    failed, good = held.service.predict(ask("nan"), ask("good")).json()["results"]
    assert failed["error"]["type"] == "/problems/internal"
    assert good["answers"][0]["version"] == "mood@2"


def test_the_log_has_a_line_for_each_request_and_no_text(service: Running) -> None:
    answer = service.predict(ask("a secret text"), ask("another secret", "nobody"))
    (event,) = [each for each in service.events("request") if each["id"] == answer.headers["X-Request-Id"]]
    assert {key: event[key] for key in ("level", "method", "route", "status", "inputs")} == {
        "level": "info",
        "method": "POST",
        "route": "/v1/predict",
        "status": 200,
        "inputs": 2,
    }
    assert event["ms"] > 0
    assert "secret" not in str(service.events())


def test_the_document_is_complete(service: Running) -> None:
    document = service.client.get("/openapi.json").json()
    text = json.dumps(document)
    references = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert references <= set(document["components"]["schemas"])
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"].endswith((".", "l")), where
            for status, response in operation["responses"].items():
                kinds = list(response.get("content", {}))
                problem = int(status) >= 400 and (path, status) != ("/readyz", "503")
                assert (kinds == ["application/problem+json"]) == problem, f"{where} {status}"


def test_every_kind_of_problem_is_in_the_document_or_of_no_route(service: Running) -> None:
    text = service.client.get("/openapi.json").text
    missing = {kind for kind in PROBLEMS if f"/problems/{kind}" not in text}
    assert missing == {"not-found", "method-not-allowed", "headers-too-large"}


def test_the_example_of_the_document_is_a_request_that_is_understood(service: Running) -> None:
    schemas = service.client.get("/openapi.json").json()["components"]["schemas"]
    (example,) = schemas["PredictRequest"]["examples"]
    results = service.client.post("/v1/predict", json=example)
    assert results.json()["type"] == "/problems/unknown-adapter"


def test_the_docs_load_nothing_from_elsewhere(service: Running) -> None:
    for path in ("/docs", "/docs.js", "/docs.css", "/icon.svg"):
        answer = service.client.get(path)
        assert answer.status_code == 200
        assert "//" not in answer.text.replace("// ", "").replace("http://www.w3.org/2000/svg", "")


def test_an_entity_is_the_part_of_its_text(service: Running) -> None:
    text = "Ada in London ÄÖ"
    found = service.predict(ask(text, "names")).json()["results"][0]["answers"][0]["entities"]
    assert found
    assert [each["text"] for each in found] == [text[each["start"] : each["end"]] for each in found]


@pytest.fixture
def captured() -> Iterator[io.StringIO]:
    """What this process logs by `logging`, as the service writes it."""
    stream = io.StringIO()
    names = ("", "uvicorn", "onetrunk")
    before = [(logging.getLogger(each), logging.getLogger(each).handlers[:]) for each in names]
    levels = [logging.getLogger(each).level for each in names]
    log = EventLog(stream)
    log.capture_logging()
    yield stream
    log.flush()
    for (logger, handlers), level in zip(before, levels, strict=True):
        logger.handlers = handlers
        logger.setLevel(level)
    logging.captureWarnings(False)


def test_what_a_plugin_raises_is_logged_without_the_text_that_it_may_tell(
    gated: Callable[..., Gated], captured: io.StringIO
) -> None:
    held = gated()
    assert held.service.predict(ask("bomb secret-word")).status_code == 500
    assert Gated.until(lambda: "failed to answer a text" in captured.getvalue())
    (event,) = [json.loads(line) for line in captured.getvalue().splitlines()]
    assert "secret-word" not in captured.getvalue()
    assert event["traceback"].startswith("ValueError\n")
    assert event["traceback"].rpartition(":")[2] == "decode"


def test_an_error_of_ours_is_logged_with_its_message(captured: io.StringIO) -> None:
    try:
        raise UsageError("say something else") from KeyError("secret-word")
    except UsageError:
        logging.getLogger("asyncio").exception("it failed\nwith secret-word")
    assert Gated.until(lambda: "it failed" in captured.getvalue())
    (event,) = [json.loads(line) for line in captured.getvalue().splitlines()]
    assert event["message"] == "it failed"
    assert "UsageError: say something else\n" in event["traceback"]
    assert event["traceback"].endswith("\nKeyError")


def test_a_request_with_very_many_answers_has_them_all(service: Running) -> None:
    results = service.predict(*[ask("good film", *["mood", "names"] * 32)] * 20).json()["results"]
    assert [len(result["answers"]) for result in results] == [64] * 20


def test_a_folder_that_cannot_be_there_is_a_problem_and_not_a_fault(service: Running) -> None:
    reference = "file:///" + "a" * 300 + "/ner"
    answer = service.client.put("/v1/adapters/new", json={"ref": reference})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/adapter-rejected")
    assert "cannot be read (File name too long)" in answer.json()["detail"]


def test_no_problem_of_a_load_tells_where_the_store_is(small: Backbone, stock: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(stock, store)
    (store / "names" / "1" / "adapter_model.safetensors").write_bytes(b"x")
    (store / "mood" / "1" / "task.json").write_text("{")
    with running(OneTrunk(small, store=Store(store))) as own:
        answers = [
            own.client.put("/v1/adapters/new", json={"ref": each}) for each in ("names", "mood@1", "nobody")
        ]
    assert [each.status_code for each in answers] == [422, 422, 404]
    assert (
        "the adapter failed its checks: adapter_model.safetensors has 1 bytes" in answers[0].json()["detail"]
    )
    assert [each.text for each in answers if str(tmp_path) in each.text] == []
    failed = [event["why"] for event in own.events("load-failed")]
    assert str(store / "names" / "1") in failed[0]


SOME = Grant("some", frozenset({"admin"}), ("mood", "new"))
LIMITED = {"Authorization": "Bearer some-token-for-some"}


@pytest.fixture(scope="module")
def limited(serve: Serve) -> Iterator[Running]:
    """A service whose only token, LIMITED, is for the names of SOME."""
    with serve(Access({hashlib.sha256(b"some-token-for-some").digest(): SOME})) as service:
        yield service


@pytest.mark.parametrize("reference", ["evil/people", "file:///tmp/people", "org/names@v1"])
def test_a_token_for_some_names_cannot_load_from_a_location(limited: Running, reference: str) -> None:
    answer = limited.client.put("/v1/adapters/new", json={"ref": reference}, headers=LIMITED)
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")
    assert "from a location" in answer.json()["detail"]


def test_an_unknown_reference_is_told_of_no_names_but_those_of_the_token(limited: Running) -> None:
    for reference, known in (("namez", "none"), ("names@7", "none"), ("mood@7", "mood@1, mood@2")):
        answer = limited.client.put("/v1/adapters/new", json={"ref": reference}, headers=LIMITED)
        assert answer.json()["type"] == "/problems/unknown-reference"
        assert answer.json()["detail"].endswith(f"known: {known}")


def test_the_status_counts_the_names_of_the_token(limited: Running, service: Running) -> None:
    assert limited.client.get("/v1/status", headers=LIMITED).json()["adapters"] == 1
    assert service.client.get("/v1/status").json()["adapters"] == len(ADAPTERS)
