"""Requests through Ray's proxy: which clients are answered, and the request id."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from onetrunk.core.serving.cluster.proxy_middleware import ProxyMiddleware
from onetrunk.core.serving.http.request import REQUEST_ID


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the id of the request in the header `x`."""
    headers = [(b"x-request-id", b"own"), (b"x", scope[REQUEST_ID].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def proxied(client: str, local: bool) -> tuple[int, dict[bytes, bytes]]:
    """Return status and headers of the response to a client behind a proxy."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "client": (client, 9),
        "headers": [(b"x-request-id", b"1")],
    }
    asyncio.run(ProxyMiddleware(echo, local=local)(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("client", "local", "status"),
    [("127.0.0.1", True, 200), ("::1", True, 200), ("10.0.0.5", True, 403), ("10.0.0.5", False, 200)],
)
def test_without_tokens_only_loopback_clients_are_answered_behind_a_proxy(
    client: str, local: bool, status: int
) -> None:
    assert proxied(client, local)[0] == status


def test_behind_a_proxy_a_request_has_the_id_that_the_proxy_gave_it() -> None:
    assert proxied("127.0.0.1", True)[1] == {b"x": b"1"}
