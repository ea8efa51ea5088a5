"""`Client` and `AsyncClient`: the synchronous client of a service, and the same client for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager

import httpx2

from onetrunk.core.client import requests as calls
from onetrunk.core.client import responses as answers
from onetrunk.core.client.base_client import BaseClient
from onetrunk.core.client.errors import ServiceError
from onetrunk.core.client.requests import CHUNK, ApiCall, Chunk, Chunks, Input, check_inputs
from onetrunk.core.client.responses import MOST_BYTES, MOST_PROBLEM_BYTES, PROBLEM, LineReader
from onetrunk.core.client.retry import Tries
from onetrunk.core.tasks import JSONObject
from onetrunk.core.tasks.prediction import Prediction


class Client(BaseClient[httpx2.Client]):
    """A client of a OneTrunk service (`adapters serve`). Safe to share between threads.

    url: base URL, `http://HOST:PORT`.
    token: the token, or the `Path` of a file with the token. Messages never contain it.
    timeout: read timeout in seconds; `load` waits longer.
    retries: how often, and for how long, a request is repeated after status 429 or 503, or a failed connection. The
        pause is at least as long as the header Retry-After says, if that is within the time of `retries`; otherwise
        the request fails at once. `unload` is repeated only if it was not sent.

    Every method raises ServiceError if the service refuses the request, ServiceUnreachable without a response, and
    AnswerError for a malformed or truncated response.
    """

    _http_class = httpx2.Client

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def predict(self, texts: Sequence[Input], adapters: Sequence[str]) -> list[list[Prediction]]:
        """Predict each text with each adapter. Returns one list per text, with one prediction per adapter.

        Both have the order of the arguments. All texts are sent in one request, and a service limits their number
        to a few hundred; `predict_stream` takes any number. A text is a string, or the list of its words. Raises
        ServiceError if one text fails, TypeError unless both arguments are such lists.
        """
        check_inputs(texts, adapters)
        if not texts:
            return []
        data = self._ask(calls.predict(texts, adapters))
        return answers.results(self.url, texts, adapters, data)

    def predict_stream(
        self, texts: Iterable[Input], adapters: Sequence[str], *, chunk: int = CHUNK
    ) -> Iterator[list[Prediction]]:
        """Predict any number of texts in bounded memory; yield the predictions of each text, in order.

        chunk: number of texts per request. With 1, each text is sent as soon as it is read; more texts are faster.
        Raises the errors of `predict`, and UsageError for a `chunk` below 1.
        """
        chunks = Chunks(adapters, chunk)
        for text in texts:
            if (full := chunks.add(text)) is not None:
                yield from self._answer(full)
        if (rest := chunks.rest()) is not None:
            yield from self._answer(rest)

    def adapters(self) -> list[JSONObject]:
        """Return the status of each served adapter that the token may use."""
        return answers.json_objects(self.url, self._ask(calls.ADAPTERS), "adapters")

    def adapter(self, name: str) -> JSONObject:
        """Return the status of the served adapter `name`. Raises UsageError for an invalid name."""
        return answers.json_object(self.url, self._ask(calls.adapter(name)))

    def load(self, name: str, ref: str) -> JSONObject:
        """Load `ref` and serve it as `name`, in place of the version that served before; return its status.

        `previous` in the status is the replaced version, if there was one. Raises ServiceError, and changes
        nothing, if `ref` is unknown or fails its checks; UsageError for an invalid `name`. The token needs the
        scope `admin`.
        """
        return answers.json_object(self.url, self._ask(calls.load(name, ref)))

    def unload(self, name: str) -> None:
        """Stop serving `name`. The token needs the scope `admin`. Raises UsageError for an invalid name."""
        self._ask(calls.unload(name))

    def status(self) -> JSONObject:
        """Return the status of the service: backbone, queue, limits and more."""
        return answers.json_object(self.url, self._ask(calls.STATUS))

    def _ask(self, call: ApiCall) -> bytes:
        with self._opened(call) as response:
            return self._read(call, response, MOST_BYTES)

    def _answer(self, chunk: Chunk) -> Iterator[list[Prediction]]:
        call = chunk.call
        reader = LineReader(self.url, chunk, Tries(self._retries, call.repeatable))
        while True:
            with self._opened(reader.left.call) as response:
                try:
                    with self._reading(call, lambda: reader.so_far):
                        for data in response.iter_bytes():
                            yield from reader.feed(data)
                    yield from reader.finish()
                    return
                except ServiceError as error:
                    if (wait := reader.pause(error)) is None:
                        raise
            time.sleep(wait)

    @contextmanager
    def _opened(self, call: ApiCall) -> Iterator[httpx2.Response]:
        """Send `call` and yield the successful response with an unread body, which is closed at the end.

        Raises ServiceError or AnswerError for any other response, ServiceUnreachable without a response.
        """
        response = self._send(call)
        try:
            if not answers.is_wanted(call, response.status_code, response.headers):
                problem = answers.kind(response.headers) == PROBLEM
                body = self._read(call, response, MOST_PROBLEM_BYTES) if problem else b""
                raise self._refusal(response.status_code, response.headers, body)
            yield response
        finally:
            response.close()

    def _send(self, call: ApiCall) -> httpx2.Response:
        """Send `call`, repeat it as `retries` allows, and return the response with an unread body."""
        tries = Tries(self._retries, call.repeatable)
        while True:
            try:
                response = self._http.send(self._request(call), stream=True)
            except httpx2.HTTPError as error:
                if (wait := tries.after_failure(error)) is None:
                    raise self._failure(call, error) from error
            else:
                if (wait := tries.after_answer(response.status_code, response.headers)) is None:
                    return response
                response.close()
            time.sleep(wait)

    def _read(self, call: ApiCall, response: httpx2.Response, most: int) -> bytes:
        body = bytearray()
        with self._reading(call, lambda: "in the middle"):
            for data in response.iter_bytes():
                answers.extend(self.url, body, data, most)
        return bytes(body)


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

    async def predict(self, texts: Sequence[Input], adapters: Sequence[str]) -> list[list[Prediction]]:
        """Predict each text with each adapter in one request; see `Client.predict`."""
        check_inputs(texts, adapters)
        if not texts:
            return []
        data = await self._ask(calls.predict(texts, adapters))
        return answers.results(self.url, texts, adapters, data)

    async def predict_stream(
        self, texts: Iterable[Input] | AsyncIterable[Input], adapters: Sequence[str], *, chunk: int = CHUNK
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
        while True:
            async with self._opened(reader.left.call) as response:
                try:
                    with self._reading(call, lambda: reader.so_far):
                        async for data in response.aiter_bytes():
                            for answered in reader.feed(data):
                                yield answered
                    for answered in reader.finish():
                        yield answered
                    return
                except ServiceError as error:
                    if (wait := reader.pause(error)) is None:
                        raise
            await asyncio.sleep(wait)

    @asynccontextmanager
    async def _opened(self, call: ApiCall) -> AsyncIterator[httpx2.Response]:
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
        tries = Tries(self._retries, call.repeatable)
        while True:
            try:
                response = await self._http.send(self._request(call), stream=True)
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


async def _chunked(texts: Iterable[Input] | AsyncIterable[Input], chunks: Chunks) -> AsyncIterator[Chunk]:
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
