"""What comes back from a service, read with distrust: it may be a proxy's page, or break off."""

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
"""The longest answer that is read, and the longest line of one."""
MOST_PROBLEM_BYTES = 2**20

_OURS = ("adapter", "version", "task")
"""The keys of an answer that are not of the task's own record."""


def kind(headers: Mapping[str, str]) -> str:
    """Return the media type of an answer, without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_wanted(call: ApiCall, status: int, headers: Mapping[str, str]) -> bool:
    """Tell whether this begins the answer that `call` is for."""
    if call.accepts is None:
        return status == 204
    return 200 <= status < 300 and kind(headers) == call.accepts


def refusal(url: str, status: int, headers: Mapping[str, str], text: str) -> ClientError:
    """Return the error for an answer that is not the wanted one. text: its body, if it is a problem."""
    if kind(headers) != PROBLEM:
        where = f", to {headers['location']}" if 300 <= status < 400 and "location" in headers else ""
        said = f"{status}{where} with {kind(headers) or 'no content type'}"
        return AnswerError(url, f"answers {said}, which is no answer of a OneTrunk service; check the URL")
    problem = _parsed(url, text)
    if not isinstance(problem, dict):
        raise AnswerError(url, f"answers {status} with a problem that is no JSON object")
    failed = problem.get("errors")  # where every text failed, the first one's problem is the request's
    first = failed[0] if isinstance(failed, list) and failed and isinstance(failed[0], dict) else {}
    number = first.get("input")
    return ServiceError(url, problem, number if isinstance(number, int) else None)


class ResponseBody:
    """Gathers the bytes of an answer, at most `most`."""

    def __init__(self, url: str, most: int = MOST_BYTES) -> None:
        self._url, self._most = url, most
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Take what has come. Raises AnswerError where it is too much."""
        self._size += len(data)
        if self._size > self._most:
            raise AnswerError(self._url, f"the answer has over {self._most >> 20} MiB, more than is read")
        self._parts.append(data)

    def take(self) -> bytes:
        """Return all that has come, and begin anew."""
        whole = b"".join(self._parts)
        self._parts, self._size = [], 0
        return whole


class LineReader:
    """Reads the answers to a chunk, a line each, as they come, from one answer of the service or several.

    left: the texts that have no answer yet.
    """

    def __init__(self, url: str, chunk: Chunk, tries: Tries) -> None:
        self.left = chunk
        self._url, self._tries = url, tries
        self._sent = len(chunk.texts)
        self._line = ResponseBody(url)
        self._moved = False

    @property
    def so_far(self) -> str:
        """How much has been read, for messages."""
        return f"after {self._sent - len(self.left.texts)} of {self._sent} texts"

    def feed(self, data: bytes) -> Iterator[list[Prediction]]:
        """Yield the answers that `data` completes. Raises ServiceError or AnswerError."""
        *whole, rest = data.split(b"\n")
        for end in whole:
            self._line.add(end)
            yield from self._answered(self._line.take())
        self._line.add(rest)

    def finish(self) -> Iterator[list[Prediction]]:
        """Yield what a last line without its end holds. Raises AnswerError if answers are missing."""
        yield from self._answered(self._line.take())
        if self.left.texts:
            raise AnswerError(self._url, f"the answer breaks off {self.so_far}")

    def pause(self, error: ServiceError) -> float | None:
        """Return the seconds to wait before what is left is sent again; None if `error` stands.

        A service that is about to end says so in its last line.
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
        ):  # as where a service ends after the last text
            raise AnswerError(self._url, f"answers more than {self._sent} texts, which is all that were sent")


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
    """Return what the adapters say of a text. Raises ServiceError if the service says that the text failed."""
    if isinstance(result, dict) and isinstance(result.get("error"), dict):
        raise ServiceError(url, result["error"], number)
    answers = result.get("answers") if isinstance(result, dict) else None
    if not isinstance(answers, list) or len(answers) != len(adapters):
        raise AnswerError(url, f"text {number + 1}: the answer has no list of {len(adapters)} answers")
    for each in answers:
        if not isinstance(each, dict) or not isinstance(each.get("version"), str):
            raise AnswerError(url, f"text {number + 1}: an answer does not say its version")
    return [
        Prediction(text, each["version"], {key: each[key] for key in each if key not in _OURS})
        for each in answers
    ]


def json_object(url: str, data: bytes) -> JSONObject:
    """Return the object that an answer is. Raises AnswerError."""
    found = _parsed(url, data)
    if not isinstance(found, dict):
        raise AnswerError(url, "the answer is no JSON object")
    return found


def json_objects(url: str, data: bytes, key: str) -> list[JSONObject]:
    """Return the list of objects that the answer has under `key`. Raises AnswerError."""
    found = json_object(url, data).get(key)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise AnswerError(url, f"the answer has no list of {key}")
    return found


def _parsed(url: str, data: bytes | str) -> Any:
    try:
        return loads(data)
    except JSONFault as fault:
        raise AnswerError(url, f"the answer {fault}") from fault
