"""Fixtures: a test server on loopback, and a function that calls either client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from onetrunk.core.client import AsyncClient, Client
from tests.core.client.answers import Ask
from tests.peer import Peer, listening


@pytest.fixture
def peer() -> Iterator[Peer]:
    with listening() as server:
        yield server


async def _asked(url: str, method: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    async with AsyncClient(url, **options) as client:
        found = getattr(client, method)(*arguments)
        return [each async for each in found] if method == "predict_stream" else await found


@pytest.fixture(params=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest, peer: Peer) -> Ask:
    """Return (method, *arguments, url, **options) → the result; runs a test once with each client class."""

    def call(method: str, *arguments: Any, url: str = peer.url, **options: Any) -> Any:
        if request.param == "AsyncClient":
            return asyncio.run(_asked(url, method, arguments, options))
        with Client(url, **options) as client:
            found = getattr(client, method)(*arguments)
            return list(found) if method == "predict_stream" else found

    return call
