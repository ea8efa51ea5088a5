"""Parse and validate responses. They are untrusted: a response may be truncated, or be the HTML page of a proxy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onetrunk.adapters.format.strict_json import JSONFault, loads
from onetrunk.core.client.errors import AnswerError, ClientError, ServiceError
from onetrunk.core.client.requests import ApiCall, Chunk, Input, text_of
from onetrunk.core.client.retry import Tries
from onetrunk.core.tasks import JSONObject
from onetrunk.core.tasks.prediction import Prediction

PROBLEM = "application/problem+json"
"""Media type of the problem details (RFC 9457) with which the service refuses a request."""
MOST_BYTES = 256 * 2**20
"""Maximum size of a response, and of one line of a stream, in bytes."""
MOST_PROBLEM_BYTES = 2**20

_OURS = ("adapter", "version", "task")
"""Keys that the service adds to the result of a task."""


def kind(headers: Mapping[str, str]) -> str:
    """Return the media type of a response, without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_wanted(call: ApiCall, status: int, headers: Mapping[str, str]) -> bool:
    """Tell whether status and headers are those of a successful response to `call`."""
    if call.accepts is None:
        return status == 204
    return 200 <= status < 300 and kind(headers) == call.accepts


def refusal(url: str, status: int, headers: Mapping[str, str], text: str) -> ClientError:
    """Return the error for an unsuccessful response. text: the body of the response."""
    if kind(headers) != PROBLEM:
        redirected = 300 <= status < 400 and "location" in headers
        where = f" (a redirect to {headers['location']})" if redirected else ""
        said = f"status {status}{where} and content type {kind(headers) or '(none)'}"
        return AnswerError(url, f"responds with {said}; a OneTrunk service does not; check the URL")
    problem = _parsed(url, text)
    if not isinstance(problem, dict):
        raise AnswerError(url, f"responds with status {status} and a problem that is not a JSON object")
    # If every text of a request fails, the service reports the problem of the first one for the whole request.
    failed = problem.get("errors")
    first = failed[0] if isinstance(failed, list) and failed and isinstance(failed[0], dict) else {}
    number = first.get("input")
    return ServiceError(url, problem, number if isinstance(number, int) else None)


def extend(url: str, body: bytearray, data: bytes, most: int = MOST_BYTES) -> None:
    """Append `data` to `body`. Raises AnswerError if `body` would have more than `most` bytes."""
    if len(body) + len(data) > most:
        raise AnswerError(url, f"the response has over {most >> 20} MiB, the limit of the client")
    body += data


class LineReader:
    """Reads the results of a chunk, one per line. After a retry, the results come from several responses.

    left: the texts without a result so far.
    """

    def __init__(self, url: str, chunk: Chunk, tries: Tries) -> None:
        self.left = chunk
        self._url, self._tries = url, tries
        self._sent = len(chunk.texts)
        self._line = bytearray()
        self._progress = False

    @property
    def so_far(self) -> str:
        """The number of results that have been read, for messages: `after 2 of 3 texts`."""
        return f"after {self._sent - len(self.left.texts)} of {self._sent} texts"

    def feed(self, data: bytes) -> Iterator[list[Prediction]]:
        """Yield the result of each line that `data` completes. Raises ServiceError or AnswerError."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            extend(self._url, self._line, end)
            yield from self._take_line()
        extend(self._url, self._line, rest)

    def finish(self) -> Iterator[list[Prediction]]:
        """Yield the result of a last line without a line break. Raises AnswerError if results are missing."""
        yield from self._take_line()
        if self.left.texts:
            raise AnswerError(self._url, f"the response was cut off {self.so_far}")

    def pause(self, error: ServiceError) -> float | None:
        """Return the seconds to wait before the retry; None if the caller should raise `error`.

        A service that shuts down reports this in the last line of a stream.
        """
        self._line.clear()
        if self._progress:
            self._tries.restart()
            self._progress = False
        return self._tries.after_answer(error.status, {})

    def _take_line(self) -> Iterator[list[Prediction]]:
        line = bytes(self._line)
        self._line.clear()
        if not line.strip():
            return
        answer = _parsed(self._url, line)
        if left := self.left.texts:
            found = predictions(self._url, left[0], self.left.adapters, answer, self.left.first)
            self.left = self.left.after(1)
            self._progress = True
            yield found
        elif not isinstance(answer, dict) or "error" not in answer:  # a shutdown may follow the last result
            what = f"responds with more results than the {self._sent} texts that were sent"
            raise AnswerError(self._url, what)


def results(url: str, texts: Sequence[Input], adapters: Sequence[str], data: bytes) -> list[list[Prediction]]:
    """Return the predictions for each text in the response `data`. Raises ServiceError for a text that failed."""
    found = json_object(url, data).get("results")
    if not isinstance(found, list) or len(found) != len(texts):
        raise AnswerError(url, f"the response has no list of {len(texts)} results")
    return [
        predictions(url, text, adapters, each, number)
        for number, (text, each) in enumerate(zip(texts, found, strict=True))
    ]


def predictions(
    url: str, text: Input, adapters: Sequence[str], result: object, number: int
) -> list[Prediction]:
    """Return the predictions of all adapters for one text. Raises ServiceError if the text failed.

    result: the JSON value that the response has for the text.
    number: index of the text, from 0.
    """
    if isinstance(result, dict) and isinstance(result.get("error"), dict):
        raise ServiceError(url, result["error"], number)
    answers = result.get("answers") if isinstance(result, dict) else None
    if not isinstance(answers, list) or len(answers) != len(adapters):
        raise AnswerError(url, f"text {number + 1}: the response has no list of {len(adapters)} answers")
    for each in answers:
        if not isinstance(each, dict) or not isinstance(each.get("version"), str):
            raise AnswerError(url, f"text {number + 1}: an answer has no version")
    return [
        Prediction(text_of(text), each["version"], {key: each[key] for key in each if key not in _OURS})
        for each in answers
    ]


def json_object(url: str, data: bytes) -> JSONObject:
    """Return the JSON object in the response `data`. Raises AnswerError if it is not a JSON object."""
    found = _parsed(url, data)
    if not isinstance(found, dict):
        raise AnswerError(url, "the response is not a JSON object")
    return found


def json_objects(url: str, data: bytes, key: str) -> list[JSONObject]:
    """Return the JSON objects that the response `data` lists under `key`. Raises AnswerError without this list."""
    found = json_object(url, data).get(key)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise AnswerError(url, f"the response has no list of {key}")
    return found


def _parsed(url: str, data: bytes | str) -> Any:
    try:
        return loads(data)
    except JSONFault as fault:
        raise AnswerError(url, f"the response {fault}") from fault
