"""`AsyncClient`: a client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType

import httpx2

from onetrunk.core.client import requests as calls
from onetrunk.core.client import responses as answers
from onetrunk.core.client.errors import ServiceError
from onetrunk.core.client.requests import CHUNK, ApiCall, Chunk, Chunks
from onetrunk.core.client.responses import MOST_BYTES, MOST_PROBLEM_BYTES, PROBLEM, LineReader, ResponseBody
from onetrunk.core.client.retry import PATIENT, Retries
from onetrunk.core.client.transport import SECONDS, Transport
from onetrunk.core.tasks import JSONObject
from onetrunk.core.tasks.prediction import Prediction, check_strings


class AsyncClient:
    """`Client` for asyncio: the same arguments, methods and errors."""

    def __init__(
        self,
        url: str,
        token: str | Path | None = None,
        *,
        timeout: float = SECONDS,
        retries: Retries = PATIENT,
    ) -> None:
        self._service = Transport(url, token, timeout, retries)
        self._http = httpx2.AsyncClient(**self._service.settings())

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    @property
    def url(self) -> str:
        """The base URL of the service."""
        return self._service.url

    async def predict(self, texts: Sequence[str], adapters: Sequence[str]) -> list[list[Prediction]]:
        """Predict each text with each adapter in one request; see `Client.predict`."""
        check_strings(texts, adapters)
        if not texts:
            return []
        answer = answers.json_object(self.url, await self._ask(calls.predict(texts, adapters)))
        return answers.results(self.url, tuple(texts), adapters, answer)

    async def predict_stream(
        self, texts: Iterable[str] | AsyncIterable[str], adapters: Sequence[str], *, chunk: int = CHUNK
    ) -> AsyncGenerator[list[Prediction], None]:
        """Predict a stream of any length in bounded memory; see `Client.predict_stream`."""
        chunks = Chunks(adapters, chunk)
        async for text in _each(texts):
            if (full := chunks.add(text)) is not None:
                async with aclosing(self._answer(full)) as answered:
                    async for each in answered:
                        yield each
        if (rest := chunks.rest()) is not None:
            async with aclosing(self._answer(rest)) as answered:
                async for each in answered:
                    yield each

    async def adapters(self) -> list[JSONObject]:
        """Return the status of each served adapter that the token may use."""
        return answers.json_objects(self.url, await self._ask(calls.ADAPTERS), "adapters")

    async def adapter(self, name: str) -> JSONObject:
        """Return the status of the served adapter `name`. Raises UsageError for an invalid name."""
        return answers.json_object(self.url, await self._ask(calls.adapter(name)))

    async def load(self, name: str, ref: str) -> JSONObject:
        """Serve `ref` as `name`; see `Client.load`."""
        return answers.json_object(self.url, await self._ask(calls.load(name, ref)))

    async def unload(self, name: str) -> None:
        """Unload the served name `name`. The token needs the scope admin."""
        await self._ask(calls.unload(name))

    async def status(self) -> JSONObject:
        """Return the status of the service: backbone, queue, limits and more."""
        return answers.json_object(self.url, await self._ask(calls.STATUS))

    async def _ask(self, call: ApiCall) -> bytes:
        """Send `call` and return the body of the response."""
        async with self._opened(call) as response:
            return await self._read(call, response, MOST_BYTES)

    async def _answer(self, chunk: Chunk) -> AsyncGenerator[list[Prediction], None]:
        call = chunk.call
        reader = LineReader(self.url, chunk, self._service.tries(call))
        while reader.left.texts:
            wait = 0.0
            async with self._opened(reader.left.call) as response:
                try:
                    with self._service.reading(call, lambda: reader.so_far):
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
        """Yield the successful response with an unread body. Raises ClientError for any other response."""
        response = await self._send(call)
        try:
            if not answers.is_wanted(call, response.status_code, response.headers):
                problem = answers.kind(response.headers) == PROBLEM
                body = await self._read(call, response, MOST_PROBLEM_BYTES) if problem else b""
                raise self._service.refusal(response.status_code, response.headers, body)
            yield response
        finally:
            await response.aclose()

    async def _send(self, call: ApiCall) -> httpx2.Response:
        """Send the request, and retry as configured; yield the response."""
        tries = self._service.tries(call)
        while True:
            request = self._http.build_request(**self._service.request(call))
            try:
                response = await self._http.send(request, stream=True)
            except httpx2.HTTPError as error:
                if (wait := tries.after_failure(error)) is None:
                    raise self._service.failure(call, error) from error
            else:
                if (wait := tries.after_answer(response.status_code, response.headers)) is None:
                    return response
                await response.aclose()
            await asyncio.sleep(wait)

    async def _read(self, call: ApiCall, response: httpx2.Response, most: int) -> bytes:
        body = ResponseBody(self.url, most)
        with self._service.reading(call, lambda: "in the middle"):
            async for data in response.aiter_bytes():
                body.add(data)
        return body.take()


async def _each(texts: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[str]:
    if isinstance(texts, AsyncIterable):
        async for text in texts:
            yield text
    else:
        for text in texts:
            yield text
