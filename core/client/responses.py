"""Parse and validate responses. They are untrusted: a response may be truncated, or be an HTML page of a proxy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onetrunk.adapters.format.strict_json import JSONFault, loads
from onetrunk.core.client.errors import AnswerError, ClientError, ServiceError
from onetrunk.core.client.requests import ApiCall, Chunk
from onetrunk.core.client.retry import Tries
from onetrunk.core.tasks import JSONObject
from onetrunk.core.tasks.prediction import Prediction

PROBLEM = "application/problem+json"
MOST_BYTES = 256 * 2**20
"""Maximum size of a response, and of one line of a stream, in bytes."""
MOST_PROBLEM_BYTES = 2**20

_OURS = ("adapter", "version", "task")
"""Keys of an answer that do not belong to the result of the task."""


def kind(headers: Mapping[str, str]) -> str:
    """Return the media type of a response, without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_wanted(call: ApiCall, status: int, headers: Mapping[str, str]) -> bool:
    """Whether status and headers are those of a successful response to `call`."""
    if call.accepts is None:
        return status == 204
    return 200 <= status < 300 and kind(headers) == call.accepts


def refusal(url: str, status: int, headers: Mapping[str, str], text: str) -> ClientError:
    """Return the error for an unsuccessful response. text: its body."""
    if kind(headers) != PROBLEM:
        where = (
            f" (a redirect to {headers['location']})" if 300 <= status < 400 and "location" in headers else ""
        )
        said = f"status {status}{where} and content type {kind(headers) or '(none)'}"
        return AnswerError(url, f"responds with {said}; a OneTrunk service does not; check the URL")
    problem = _parsed(url, text)
    if not isinstance(problem, dict):
        raise AnswerError(url, f"responds with status {status} and a problem that is not a JSON object")
    # If every text failed, the problem of the request is that of the first text.
    failed = problem.get("errors")
    first = failed[0] if isinstance(failed, list) and failed and isinstance(failed[0], dict) else {}
    number = first.get("input")
    return ServiceError(url, problem, number if isinstance(number, int) else None)


class ResponseBody:
    """Collects the bytes of a response, at most `most`."""

    def __init__(self, url: str, most: int = MOST_BYTES) -> None:
        self._url, self._most = url, most
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Add received bytes. Raises AnswerError above the limit."""
        self._size += len(data)
        if self._size > self._most:
            raise AnswerError(
                self._url, f"the response has over {self._most >> 20} MiB, the limit of the client"
            )
        self._parts.append(data)

    def take(self) -> bytes:
        """Return the collected bytes and start a new body."""
        whole = b"".join(self._parts)
        self._parts, self._size = [], 0
        return whole


class LineReader:
    """Reads the results of a chunk, one per line. After a retry, they come from several responses.

    left: the texts without a result so far.
    """

    def __init__(self, url: str, chunk: Chunk, tries: Tries) -> None:
        self.left = chunk
        self._url, self._tries = url, tries
        self._sent = len(chunk.texts)
        self._line = ResponseBody(url)
        self._moved = False

    @property
    def so_far(self) -> str:
        """How many results have been read, for messages."""
        return f"after {self._sent - len(self.left.texts)} of {self._sent} texts"

    def feed(self, data: bytes) -> Iterator[list[Prediction]]:
        """Yield the result of each line that is complete after `data`. Raises ServiceError or AnswerError."""
        *whole, rest = data.split(b"\n")
        for end in whole:
            self._line.add(end)
            yield from self._answered(self._line.take())
        self._line.add(rest)

    def finish(self) -> Iterator[list[Prediction]]:
        """Yield the result of a last line without a line break. Raises AnswerError if results are missing."""
        yield from self._answered(self._line.take())
        if self.left.texts:
            raise AnswerError(self._url, f"the answer breaks off {self.so_far}")

    def pause(self, error: ServiceError) -> float | None:
        """Return the seconds to wait before the retry, None if the caller should raise `error`.

        A service that shuts down reports it in the last line of a stream.
        """
        self._line.take()
        if self._moved:
            self._tries.restart()
            self._moved = False
        return self._tries.after_answer(error.status, {})

    def _answered(self, line: bytes) -> Iterator[list[Prediction]]:
        if not line.strip():
            return
        answer = _parsed(self._url, line)
        if self.left.texts:
            left = self.left
            found = predictions(self._url, left.texts[0], left.adapters, answer, left.first)
            self.left = left.after(1)
            self._moved = True
            yield found
        elif not (
            isinstance(answer, dict) and "error" in answer
        ):  # an error after the last result only reports a shutdown
            raise AnswerError(
                self._url, f"responds with more results than the {self._sent} texts that were sent"
            )


def results(
    url: str, texts: Sequence[str], adapters: Sequence[str], answer: object
) -> list[list[Prediction]]:
    """Return the predictions for each text. Raises ServiceError for the first text that failed."""
    found = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(found, list) or len(found) != len(texts):
        raise AnswerError(url, f"the answer has no list of {len(texts)} results")
    return [
        predictions(url, text, adapters, each, number)
        for number, (text, each) in enumerate(zip(texts, found, strict=True))
    ]


def predictions(
    url: str, text: str, adapters: Sequence[str], result: object, number: int
) -> list[Prediction]:
    """Return the predictions of all adapters for one text. Raises ServiceError if the text failed."""
    if isinstance(result, dict) and isinstance(result.get("error"), dict):
        raise ServiceError(url, result["error"], number)
    answers = result.get("answers") if isinstance(result, dict) else None
    if not isinstance(answers, list) or len(answers) != len(adapters):
        raise AnswerError(url, f"text {number + 1}: the answer has no list of {len(adapters)} answers")
    for each in answers:
        if not isinstance(each, dict) or not isinstance(each.get("version"), str):
            raise AnswerError(url, f"text {number + 1}: an answer has no version")
    return [
        Prediction(text, each["version"], {key: each[key] for key in each if key not in _OURS})
        for each in answers
    ]


def json_object(url: str, data: bytes) -> JSONObject:
    """Return the JSON object of a response. Raises AnswerError for anything else."""
    found = _parsed(url, data)
    if not isinstance(found, dict):
        raise AnswerError(url, "the answer is not a JSON object")
    return found


def json_objects(url: str, data: bytes, key: str) -> list[JSONObject]:
    """Return the list of JSON objects under `key` of a response. Raises AnswerError for anything else."""
    found = json_object(url, data).get(key)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise AnswerError(url, f"the answer has no list of {key}")
    return found


def _parsed(url: str, data: bytes | str) -> Any:
    try:
        return loads(data)
    except JSONFault as fault:
        raise AnswerError(url, f"the answer {fault}") from fault
