"""Headers that could mean two things to a proxy and to this service."""

from __future__ import annotations

import hashlib
import json

import pytest

from onetrunk.core.serving.http.auth import Access, Grant
from tests.core.serving.conftest import Running, Serve, ask
from tests.core.serving.http.test_limits import raw

BODY = json.dumps({"inputs": [ask()]}).encode()
TYPE = b"Content-Type: application/json\r\nConnection: close\r\n"


def access_of(token: str) -> Access:
    return Access({hashlib.sha256(token.encode()).digest(): Grant("one", frozenset({"predict"}))})


def post(headers: bytes, body: bytes = BODY) -> bytes:
    return (
        b"POST /v1/predict HTTP/1.1\r\n" + headers + TYPE + b"Content-Length: %d\r\n\r\n" % len(body) + body
    )


@pytest.mark.parametrize("other", [b"localhost", b"evil.example"])
@pytest.mark.parametrize("first", [True, False])
def test_two_host_headers_are_refused(service: Running, other: bytes, first: bool) -> None:
    hosts = [b"localhost", other] if first else [other, b"localhost"]
    answer = raw(service, post(b"".join(b"Host: %s\r\n" % host for host in hosts)))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"the request has several headers 'host'; send one" in answer


def test_two_authorization_headers_are_refused(serve: Serve) -> None:
    token = "a-token-of-16-characters"
    access = access_of(token)
    value = b"Authorization: Bearer %s\r\n" % token.encode()
    with serve(access=access) as service:
        assert raw(service, post(b"Host: localhost\r\n" + value)).startswith(b"HTTP/1.1 200 ")
        answer = raw(service, post(b"Host: localhost\r\nAuthorization: Bearer other\r\n" + value))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert token.encode() not in answer


def chunked(trailers: bytes, headers: bytes = b"Host: localhost\r\n") -> bytes:
    head = b"POST /v1/predict HTTP/1.1\r\n" + headers + TYPE + b"Transfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(BODY), BODY, trailers)


def test_trailers_never_become_headers(serve: Serve) -> None:
    token = "a-token-of-16-characters"
    access = access_of(token)
    trailer = b"Authorization: Bearer %s\r\n" % token.encode()
    with serve(access=access) as service:
        assert raw(service, chunked(trailer)).startswith(b"HTTP/1.1 401 ")
        assert raw(service, chunked(b"", b"Host: localhost\r\n" + trailer)).startswith(b"HTTP/1.1 200 ")
        # Nor do they count as repeated headers.
        assert raw(service, chunked(b"Host: x\r\n", b"Host: localhost\r\n" + trailer)).startswith(
            b"HTTP/1.1 200 "
        )
