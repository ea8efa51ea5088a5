"""CORS: which web pages may call the service from a browser."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from onetrunk.core.errors import UsageError
from onetrunk.core.serving.http.cors import check_origins, with_cors
from tests.core.serving.conftest import Running, ask

ORIGIN = "https://example.org"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type, authorization",
}


@pytest.fixture
def client(service: Running) -> TestClient:
    return TestClient(with_cors(service.app, [ORIGIN]), base_url="http://localhost")


def test_a_page_of_an_allowed_origin_may_predict(client: TestClient) -> None:
    preflight = client.options("/v1/predict", headers={"Origin": ORIGIN, **PREFLIGHT})
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    answer = client.get("/v1/adapters", headers={"Origin": ORIGIN})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://example.org.evil.example"])
def test_a_page_of_another_origin_may_not(client: TestClient, origin: str) -> None:
    preflight = client.options("/v1/predict", headers={"Origin": origin, **PREFLIGHT})
    assert preflight.status_code == 400
    assert "Access-Control-Allow-Origin" not in preflight.headers
    assert "Access-Control-Allow-Origin" not in client.get("/healthz", headers={"Origin": origin}).headers


def test_without_the_option_there_are_no_cors_headers(service: Running) -> None:
    headers = {"Origin": ORIGIN, **PREFLIGHT}
    assert service.client.options("/v1/predict", headers=headers).status_code == 405
    answer = service.predict(ask(), headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origin", ["example.org", "https://example.org/", "ftp://a", "https://a b", "", "https://*"]
)
def test_an_origin_that_is_not_valid_is_refused(origin: str) -> None:
    with pytest.raises(UsageError, match=r"invalid CORS origin .* expected scheme, host and port only"):
        check_origins([origin], has_tokens=True)


def test_any_origin_needs_tokens() -> None:
    with pytest.raises(
        UsageError, match="the CORS origin \\* lets every web page use a service without tokens"
    ):
        check_origins(["*"], has_tokens=False)
    check_origins(["*", "http://localhost:3000", "http://[::1]:80"], has_tokens=True)
