"""Schemas of requests and responses, as pydantic models.

Requests are validated with them. The OpenAPI document is made from them, with the docstrings as descriptions.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, SkipValidation

from onetrunk.core.serving.engine.config import NAME
from onetrunk.core.serving.http.problems import MAX_NAME_CHARACTERS
from onetrunk.core.tasks import JSONObject

_INPUT = {"text": "Ada Lovelace loved London.", "adapters": ["ner", "sentiment@prod"]}
_ENTITY = {"start": 0, "end": 12, "text": "Ada Lovelace", "label": "PER", "score": 0.99}
_NER = {"adapter": "ner", "version": "ner@3", "task": "ner", "entities": [_ENTITY]}
_SENTIMENT = {
    "adapter": "sentiment@prod",
    "version": "sentiment@2",
    "task": "sentiment",
    "label": "positive",
    "score": 0.98,
    "scores": {"negative": 0.02, "positive": 0.98},
}
_UNKNOWN = {
    "type": "/problems/unknown-adapter",
    "title": "Unknown adapter",
    "status": 404,
    "detail": "adapter 'x' is not served; served adapters: ner, sentiment@prod",
    "adapter": "x",
    "known": ["ner", "sentiment@prod"],
}
_RESULTS: list[JSONObject] = [{"answers": [_NER, _SENTIMENT]}, {"error": _UNKNOWN}]
_ADAPTER = {
    "name": "ner",
    "version": "ner@3",
    "ref": "ner@prod",
    "task": "ner",
    "labels": ["O", "B-PER", "I-PER"],
    "tier": "device",
    "since": "2026-11-25T19:00:00.000Z",
    "requests": 123,
    "requests_per_second": 1.2,
    "p95_ms": 34.1,
}

AdapterName = Annotated[
    str, Field(max_length=MAX_NAME_CHARACTERS, description="The served name of an adapter.")
]
UnicodeText = Annotated[str, Field(min_length=0)]
"""Text that UTF-8 can encode. `min_length=0` makes pydantic refuse lone surrogates; it has no other effect."""


def _example(example: JSONObject) -> JSONObject:
    return {"examples": [example]}


class _Request(BaseModel, extra="forbid", strict=True):
    """A request, or a part of one. Unknown keys are refused, and types are not converted."""


class _Response(BaseModel, extra="allow"):
    """A response, or a part of one."""


class PredictInput(_Request, json_schema_extra=_example(_INPUT)):
    """A text, and the adapters to run on it."""

    text: UnicodeText
    adapters: Annotated[list[AdapterName], Field(min_length=1)]


class PredictRequest(_Request, json_schema_extra=_example({"inputs": [_INPUT]})):
    """Texts to predict on. Each input is checked separately: an invalid one does not affect the others."""

    inputs: Annotated[list[SkipValidation[PredictInput]], Field(min_length=1)]


class StreamLine(PredictInput, json_schema_extra=_example({"id": 7, **_INPUT})):
    """One line of a streaming request. The line of its result repeats the `id`."""

    id: str | int | float | None = None


class AnswerRecord(_Response, json_schema_extra=_example(_NER)):
    """The prediction of one adapter for one text. The other keys depend on the task."""

    adapter: Annotated[str, Field(description="The served name, as in the request.")]
    version: Annotated[str, Field(description="The version that answered.")]
    task: str


class ProblemDetails(_Response, json_schema_extra=_example(_UNKNOWN)):
    """Problem details (RFC 9457). Some types have further members, such as `known` or `errors`."""

    type: Annotated[str, Field(pattern="^/problems/[a-z-]+$")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: Annotated[str, Field(description="The id of the request, as in X-Request-Id.")] = ""


class InputAnswers(_Response, json_schema_extra=_example(_RESULTS[0])):
    """The answers to an input: one for each adapter, in the order of the request."""

    answers: list[AnswerRecord]


class InputProblem(_Response, json_schema_extra=_example(_RESULTS[1])):
    """The problem of an input that could not be answered."""

    error: ProblemDetails


class PredictResponse(_Response, json_schema_extra=_example({"results": _RESULTS}), extra="forbid"):
    """One result for each input, in order."""

    results: list[InputAnswers | InputProblem]


class StreamResult(_Response, json_schema_extra=_example({"id": 7, **_RESULTS[0]})):
    """The result of a line: `answers` or `error`, and the `id` of the line. An error also has the `line` number."""

    answers: list[AnswerRecord] = []
    error: ProblemDetails | None = None
    id: str | int | float | None = None
    line: int = 0


class AdapterRecord(_Response, json_schema_extra=_example(_ADAPTER)):
    """A served adapter. The rate and the latency are those of the last minute."""

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    version: str
    ref: Annotated[str, Field(description="The reference that it was loaded from.")]
    task: str
    labels: list[str]
    tier: Literal["device", "host", "disk"]
    since: str
    requests: Annotated[
        int, Field(ge=0, description="Number of texts since an adapter was first loaded under this name.")
    ]
    requests_per_second: Annotated[float, Field(ge=0)]
    p95_ms: float | None


class LoadedAdapter(AdapterRecord, json_schema_extra=_example({**_ADAPTER, "previous": "ner@2"})):
    """An adapter that was loaded. `previous` is the version that it replaced, if any."""

    previous: str | None


class AdapterList(_Response, json_schema_extra=_example({"adapters": [_ADAPTER]})):
    """The served adapters, sorted by name."""

    adapters: list[AdapterRecord]


class LoadRequest(_Request, json_schema_extra=_example({"ref": "org/ner@v2"})):
    """The reference of the adapter to load."""

    ref: Annotated[
        str,
        Field(min_length=1, max_length=4096, description="ner, ner@3, ner@prod, org/repo@rev or file:///…"),
    ]


class QueueStatus(BaseModel):
    """The queue.

    `texts`: number of texts that are not in a batch yet. `tokens`: number of tokens of all texts that are accepted,
    but not answered yet.
    """

    texts: int
    tokens: int
    limit_tokens: int
    wait_ms_p95: float | None


class RequestLimits(BaseModel):
    """The limits of a request."""

    max_inputs: int
    max_adapters: int
    max_characters: int
    max_body_bytes: int


class ServiceStatus(BaseModel):
    """The state of the service."""

    status: Literal["ready", "overloaded", "draining", "broken"]
    backbone: str
    device: str
    precision: str
    uptime_seconds: float
    queue: QueueStatus
    requests_per_second: float
    adapters: int
    limits: RequestLimits


class HealthStatus(BaseModel):
    """The state of the service in one word."""

    status: str
