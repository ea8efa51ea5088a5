"""The OpenAPI document, and the page that shows it."""

from __future__ import annotations

import json

from onetrunk.core.serving.http.problems import PROBLEMS
from tests.core.serving.conftest import Running


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


def test_every_kind_of_problem_of_a_route_is_in_the_document(service: Running) -> None:
    text = service.client.get("/openapi.json").text
    missing = {kind for kind in PROBLEMS if f"/problems/{kind}" not in text}
    assert missing == {"not-found", "method-not-allowed", "headers-too-large"}


def test_the_example_of_the_document_is_a_valid_request(service: Running) -> None:
    schemas = service.client.get("/openapi.json").json()["components"]["schemas"]
    (example,) = schemas["PredictRequest"]["examples"]
    results = service.client.post("/v1/predict", json=example)
    assert results.json()["type"] == "/problems/unknown-adapter"


def test_the_docs_load_nothing_from_elsewhere(service: Running) -> None:
    for path in ("/docs", "/docs.js", "/docs.css", "/icon.svg"):
        answer = service.client.get(path)
        assert answer.status_code == 200
        assert "//" not in answer.text.replace("// ", "").replace("http://www.w3.org/2000/svg", "")
