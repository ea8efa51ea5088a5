"""`Client`: a synchronous client."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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


class Client:
    """A client of a OneTrunk service (`adapters serve`). Safe to share between threads.

    url: base URL, `http://HOST:PORT`.
    token: the token, or the `Path` of a file with it. Messages never contain it.
    timeout: read timeout in seconds; loads have a longer one.
    retries: how often, and for how long, a request is repeated after 429 and 503, at the time in Retry-After, or
        after a failed connection. An unload is repeated only if it was not sent.

    Every method raises ServiceError if the service refuses the request, ServiceUnreachable without a response, and
    AnswerError for a malformed response.
    """

    def __init__(
        self,
        url: str,
        token: str | Path | None = None,
        *,
        timeout: float = SECONDS,
        retries: Retries = PATIENT,
    ) -> None:
        self._service = Transport(url, token, timeout, retries)
        self._http = httpx2.Client(**self._service.settings())

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    @property
    def url(self) -> str:
        """The base URL of the service."""
        return self._service.url

    def predict(self, texts: Sequence[str], adapters: Sequence[str]) -> list[list[Prediction]]:
        """Predict each text with each adapter. Returns a list per text with one prediction per adapter, in order.

        All texts go into one request, which a service limits to a few hundred; `predict_stream` takes any number.
        Raises ServiceError if one text fails, TypeError unless both arguments are lists of strings.
        """
        check_strings(texts, adapters)
        if not texts:
            return []
        answer = answers.json_object(self.url, self._ask(calls.predict(texts, adapters)))
        return answers.results(self.url, tuple(texts), adapters, answer)

    def predict_stream(
        self, texts: Iterable[str], adapters: Sequence[str], *, chunk: int = CHUNK
    ) -> Iterator[list[Prediction]]:
        """Predict a stream of any length in bounded memory; otherwise like `predict`.

        chunk: number of texts per request; with 1, each text is predicted as soon as it is read, which is slower.
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

        `previous` in the status is the replaced version, if any. Raises ServiceError, and nothing changes, if `ref`
        is unknown or fails its checks. The token needs the scope admin.
        """
        return answers.json_object(self.url, self._ask(calls.load(name, ref)))

    def unload(self, name: str) -> None:
        """Unload the served name `name`. The token needs the scope admin."""
        self._ask(calls.unload(name))

    def status(self) -> JSONObject:
        """Return the status of the service: backbone, queue, limits and more."""
        return answers.json_object(self.url, self._ask(calls.STATUS))

    def _ask(self, call: ApiCall) -> bytes:
        """Send `call` and return the body of the response."""
        with self._opened(call) as response:
            return self._read(call, response, MOST_BYTES)

    def _answer(self, chunk: Chunk) -> Iterator[list[Prediction]]:
        call = chunk.call
        reader = LineReader(self.url, chunk, self._service.tries(call))
        while reader.left.texts:
            wait = 0.0
            with self._opened(reader.left.call) as response:
                try:
                    with self._service.reading(call, lambda: reader.so_far):
                        for data in response.iter_bytes():
                            yield from reader.feed(data)
                    yield from reader.finish()
                except ServiceError as error:
                    if (again := reader.pause(error)) is None:
                        raise
                    wait = again
            time.sleep(wait)

    @contextmanager
    def _opened(self, call: ApiCall) -> Iterator[httpx2.Response]:
        """Yield the successful response with an unread body. Raises ClientError for any other response."""
        response = self._send(call)
        try:
            if not answers.is_wanted(call, response.status_code, response.headers):
                problem = answers.kind(response.headers) == PROBLEM
                body = self._read(call, response, MOST_PROBLEM_BYTES) if problem else b""
                raise self._service.refusal(response.status_code, response.headers, body)
            yield response
        finally:
            response.close()

    def _send(self, call: ApiCall) -> httpx2.Response:
        """Send the request, and retry as configured; yield the response."""
        tries = self._service.tries(call)
        while True:
            request = self._http.build_request(**self._service.request(call))
            try:
                response = self._http.send(request, stream=True)
            except httpx2.HTTPError as error:
                if (wait := tries.after_failure(error)) is None:
                    raise self._service.failure(call, error) from error
            else:
                if (wait := tries.after_answer(response.status_code, response.headers)) is None:
                    return response
                response.close()
            time.sleep(wait)

    def _read(self, call: ApiCall, response: httpx2.Response, most: int) -> bytes:
        body = ResponseBody(self.url, most)
        with self._service.reading(call, lambda: "in the middle"):
            for data in response.iter_bytes():
                body.add(data)
        return body.take()
