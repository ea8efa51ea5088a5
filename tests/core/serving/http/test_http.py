"""What all routes share over HTTP: content types, methods, paths, hosts, headers and log lines."""

from __future__ import annotations

import pytest

from tests.core.serving.conftest import Running, ask


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"],
)
@pytest.mark.parametrize("path", ["/v1/predict", "/v1/predict/stream", "/v1/adapters/mood"])
def test_another_content_type_is_refused(service: Running, kind: str, path: str) -> None:
    method = "PUT" if path.endswith("mood") else "POST"
    answer = service.client.request(
        method, path, content=b"{}", headers={"Content-Type": kind} if kind else {}
    )
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")


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
def test_another_method_is_refused_with_the_allowed_ones(
    service: Running, method: str, path: str, allow: str
) -> None:
    answer = service.client.request(method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allow)
    assert answer.json()["type"] == "/problems/method-not-allowed"


@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/v1/adapters/", "/v1/predict/", "/v1/adapters/a/b"])
def test_an_unknown_path_is_answered_with_404(service: Running, path: str) -> None:
    answer = service.client.get(path)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


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
