"""`AsyncClient`: the client of a service for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager

import httpx2

from onetrunk.core.client import requests as calls
from onetrunk.core.client import responses as answers
from onetrunk.core.client.base_client import BaseClient
from onetrunk.core.client.errors import ServiceError
from onetrunk.core.client.requests import CHUNK, ApiCall, Chunk, Chunks
from onetrunk.core.client.responses import MOST_BYTES, MOST_PROBLEM_BYTES, PROBLEM, LineReader
from onetrunk.core.client.retry import Tries
from onetrunk.core.tasks import JSONObject
from onetrunk.core.tasks.prediction import Prediction, check_strings


class AsyncClient(BaseClient[httpx2.AsyncClient]):
    """A client of a OneTrunk service for asyncio, with the arguments, methods and errors of `Client`."""

    _http_class = httpx2.AsyncClient

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def predict(self, texts: Sequence[str], adapters: Sequence[str]) -> list[list[Prediction]]:
        """Predict each text with each adapter in one request; see `Client.predict`."""
        check_strings(texts, adapters)
        if not texts:
            return []
        data = await self._ask(calls.predict(texts, adapters))
        return answers.results(self.url, texts, adapters, data)

    async def predict_stream(
        self, texts: Iterable[str] | AsyncIterable[str], adapters: Sequence[str], *, chunk: int = CHUNK
    ) -> AsyncGenerator[list[Prediction], None]:
        """Predict any number of texts in bounded memory; see `Client.predict_stream`."""
        async for each in _chunked(texts, Chunks(adapters, chunk)):
            async with aclosing(self._answer(each)) as answered:
                async for predictions in answered:
                    yield predictions

    async def adapters(self) -> list[JSONObject]:
        """Return the status of each served adapter that the token may use."""
        return answers.json_objects(self.url, await self._ask(calls.ADAPTERS), "adapters")

    async def adapter(self, name: str) -> JSONObject:
        """Return the status of the served adapter `name`. Raises UsageError for an invalid name."""
        return answers.json_object(self.url, await self._ask(calls.adapter(name)))

    async def load(self, name: str, ref: str) -> JSONObject:
        """Load `ref` and serve it as `name`; see `Client.load`."""
        return answers.json_object(self.url, await self._ask(calls.load(name, ref)))

    async def unload(self, name: str) -> None:
        """Stop serving `name`; see `Client.unload`."""
        await self._ask(calls.unload(name))

    async def status(self) -> JSONObject:
        """Return the status of the service: backbone, queue, limits and more."""
        return answers.json_object(self.url, await self._ask(calls.STATUS))

    async def _ask(self, call: ApiCall) -> bytes:
        async with self._opened(call) as response:
            return await self._read(call, response, MOST_BYTES)

    async def _answer(self, chunk: Chunk) -> AsyncGenerator[list[Prediction], None]:
        call = chunk.call
        reader = LineReader(self.url, chunk, Tries(self._retries, call.repeatable))
        while reader.left.texts:
            wait = 0.0
            async with self._opened(reader.left.call) as response:
                try:
                    with self._reading(call, lambda: reader.so_far):
                        async for data in response.aiter_bytes():
                            for answered in reader.feed(data):
                                yield answered
                    for answered in reader.finish():
                        yield answered
                except ServiceError as error:
                    if (again := reader.pause(error)) is None:
                        raise
                    wait = again
            await asyncio.sleep(wait)

    @asynccontextmanager
    async def _opened(self, call: ApiCall) -> AsyncIterator[httpx2.Response]:
        """Send `call` and yield the successful response with an unread body, which is closed at the end.

        Raises ServiceError or AnswerError for any other response, ServiceUnreachable without a response.
        """
        response = await self._send(call)
        try:
            if not answers.is_wanted(call, response.status_code, response.headers):
                problem = answers.kind(response.headers) == PROBLEM
                body = await self._read(call, response, MOST_PROBLEM_BYTES) if problem else b""
                raise self._refusal(response.status_code, response.headers, body)
            yield response
        finally:
            await response.aclose()

    async def _send(self, call: ApiCall) -> httpx2.Response:
        """Send `call`, repeat it as `retries` allows, and return the response with an unread body."""
        tries = Tries(self._retries, call.repeatable)
        while True:
            request = self._http.build_request(**self._request(call))
            try:
                response = await self._http.send(request, stream=True)
            except httpx2.HTTPError as error:
                if (wait := tries.after_failure(error)) is None:
                    raise self._failure(call, error) from error
            else:
                if (wait := tries.after_answer(response.status_code, response.headers)) is None:
                    return response
                await response.aclose()
            await asyncio.sleep(wait)

    async def _read(self, call: ApiCall, response: httpx2.Response, most: int) -> bytes:
        body = bytearray()
        with self._reading(call, lambda: "in the middle"):
            async for data in response.aiter_bytes():
                answers.extend(self.url, body, data, most)
        return bytes(body)


async def _chunked(texts: Iterable[str] | AsyncIterable[str], chunks: Chunks) -> AsyncIterator[Chunk]:
    if isinstance(texts, AsyncIterable):
        async for text in texts:
            if (full := chunks.add(text)) is not None:
                yield full
    else:
        for text in texts:
            if (full := chunks.add(text)) is not None:
                yield full
    if (rest := chunks.rest()) is not None:
        yield rest
