"""`Client`: a service from code that waits."""

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
    """A service of OneTrunk, such as `adapters serve` starts. Safe to share between threads.

    url: where it is, `http://HOST:PORT`. token: the token, or the `Path` of a file with it; no message has it.
    timeout: seconds in which no byte comes, after which it is given up; a load may take longer.
    retries: how often, and how long, a request is sent again that the service has no room for (429, 503), when it
    says (Retry-After), or whose connection failed, for a few seconds; an unload only if it was not sent yet.

    Every method raises ServiceError where the service refuses, ServiceUnreachable where there is no answer, and
    AnswerError for an answer that is none of such a service.
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
        """Close the connections."""
        self._http.close()

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._service.url

    def predict(self, texts: Sequence[str], adapters: Sequence[str]) -> list[list[Prediction]]:
        """Answer every text with every adapter: a list a text, in it a prediction an adapter, in the order asked.

        All in one request, of which a service takes a few hundred texts; `predict_stream` takes any number. A text
        that fails raises ServiceError for all. Raises TypeError for what is no list of strings.
        """
        check_strings(texts, adapters)
        if not texts:
            return []
        answer = answers.json_object(self.url, self._ask(calls.predict(texts, adapters)))
        return answers.results(self.url, tuple(texts), adapters, answer)

    def predict_stream(
        self, texts: Iterable[str], adapters: Sequence[str], *, chunk: int = CHUNK
    ) -> Iterator[list[Prediction]]:
        """Answer a stream of any length in bounded memory, as fast as it is read; otherwise as `predict`.

        chunk: texts that are read before they are answered together; 1 answers each as it comes, more slowly.
        """
        chunks = Chunks(adapters, chunk)
        for text in texts:
            if (full := chunks.add(text)) is not None:
                yield from self._answer(full)
        if (rest := chunks.rest()) is not None:
            yield from self._answer(rest)

    def adapters(self) -> list[JSONObject]:
        """Return what the service tells of each adapter that it serves, of those that the token may use."""
        return answers.json_objects(self.url, self._ask(calls.ADAPTERS), "adapters")

    def adapter(self, name: str) -> JSONObject:
        """Return what the service tells of the adapter `name`. Raises UsageError for what is no name."""
        return answers.json_object(self.url, self._ask(calls.adapter(name)))

    def load(self, name: str, ref: str) -> JSONObject:
        """Serve `ref` as `name`, in place of what served so; return its record.

        In it `previous` is the version before, if any. Raises ServiceError, and changes nothing, for what the
        service cannot find or does not accept. The token must have the scope admin.
        """
        return answers.json_object(self.url, self._ask(calls.load(name, ref)))

    def unload(self, name: str) -> None:
        """Serve nothing as `name` any more. The token must have the scope admin."""
        self._ask(calls.unload(name))

    def status(self) -> JSONObject:
        """Return how the service is: its backbone, queue, limits and more."""
        return answers.json_object(self.url, self._ask(calls.STATUS))

    def _ask(self, call: ApiCall) -> bytes:
        """Return the whole answer."""
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
        """Yield the wanted answer, of which no more than the head is read. Raises ClientError for another one."""
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
        """Send until there is an answer that stands."""
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
