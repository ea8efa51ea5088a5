"""What goes in and out: requests are checked with these records, and the OpenAPI document is made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SkipValidation

from onetrunk.adapters.format.strict_json import is_unicode
from onetrunk.core.serving.engine.config import NAME
from onetrunk.core.serving.http.problems import MAX_NAME_CHARACTERS

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
    "detail": "no adapter 'x' is served; served are: ner, sentiment@prod",
    "adapter": "x",
    "known": ["ner", "sentiment@prod"],
}
_RESULTS: list[dict[str, Any]] = [{"answers": [_NER, _SENTIMENT]}, {"error": _UNKNOWN}]
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
    str, Field(max_length=MAX_NAME_CHARACTERS, description="A name that an adapter serves under.")
]


def _check_unicode(text: str) -> str:
    if not is_unicode(text):
        raise ValueError("has half a surrogate pair, which is not a character; remove it")
    return text


Unicode = AfterValidator(_check_unicode)
"""The check that a text can be written in UTF-8, which not all that JSON can hold can."""


def _example(example: Any, *, closed: bool = False) -> ConfigDict:
    extra: Literal["forbid", "allow"] = "forbid" if closed else "allow"
    return ConfigDict(json_schema_extra={"examples": [example]}, extra=extra, strict=True)


class PredictInput(BaseModel):
    """A text, and the adapters that it is asked of."""

    model_config = _example(_INPUT, closed=True)

    text: Annotated[str, Unicode]
    adapters: Annotated[list[AdapterName], Field(min_length=1)]


class PredictRequest(BaseModel):
    """Texts to answer. Each input is checked by itself, so that one that is wrong fails alone."""

    model_config = _example({"inputs": [_INPUT]}, closed=True)

    inputs: Annotated[list[SkipValidation[PredictInput]], Field(min_length=1)]


class StreamLine(PredictInput):
    """A line of a stream. id: comes back with the result."""

    model_config = _example({"id": 7, **_INPUT}, closed=True)

    id: str | int | float | None = None


class AnswerRecord(BaseModel):
    """What an adapter says of a text: with these keys those of its task's own record."""

    model_config = _example(_NER)

    adapter: Annotated[str, Field(description="The name that was asked for.")]
    version: Annotated[str, Field(description="What answered.")]
    task: str


class ProblemDetails(BaseModel):
    """RFC 9457 problem details. Some have further members, such as `known` or `errors`."""

    model_config = _example(_UNKNOWN)

    type: Annotated[str, Field(pattern="^/problems/[a-z-]+$")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: Annotated[str, Field(description="The request's id, as in X-Request-Id.")] = ""


class InputAnswers(BaseModel):
    """The answers to an input, one an adapter, in the order asked."""

    model_config = _example(_RESULTS[0])

    answers: list[AnswerRecord]


class InputProblem(BaseModel):
    """Why there is no answer to an input."""

    model_config = _example(_RESULTS[1])

    error: ProblemDetails


class PredictResponse(BaseModel):
    """One result an input, in order."""

    model_config = _example({"results": _RESULTS}, closed=True)

    results: list[InputAnswers | InputProblem]


class StreamResult(BaseModel):
    """A line of answers: `answers` or `error`, with the line's `id`; an error has the number of the `line`."""

    model_config = _example({"id": 7, **_RESULTS[0]})

    answers: list[AnswerRecord] = []
    error: ProblemDetails | None = None
    id: str | int | float | None = None
    line: int = 0


class AdapterRecord(BaseModel):
    """An adapter in service; the figures are of the last minute."""

    model_config = _example(_ADAPTER)

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    version: str
    ref: Annotated[str, Field(description="What it was loaded as.")]
    task: str
    labels: list[str]
    tier: Literal["device", "host", "disk"]
    since: str
    requests: Annotated[int, Field(ge=0, description="Texts that it was asked, since it has served.")]
    requests_per_second: Annotated[float, Field(ge=0)]
    p95_ms: float | None


class LoadedAdapter(AdapterRecord):
    """An adapter that was loaded; `previous` is the version that served before."""

    model_config = _example({**_ADAPTER, "previous": "ner@2"})

    previous: str | None


class AdapterList(BaseModel):
    """What is served."""

    model_config = _example({"adapters": [_ADAPTER]})

    adapters: list[AdapterRecord]


class LoadRequest(BaseModel):
    """What to load."""

    model_config = _example({"ref": "org/ner@v2"}, closed=True)

    ref: Annotated[
        str,
        Field(min_length=1, max_length=4096, description="ner, ner@3, ner@prod, org/repo@rev or file:///…"),
    ]


class QueueStatus(BaseModel):
    """What waits. tokens: accepted and not yet answered; texts: those that are in no batch yet."""

    texts: int
    tokens: int
    limit_tokens: int
    wait_ms_p95: float | None


class RequestLimits(BaseModel):
    """What a request may have."""

    max_inputs: int
    max_adapters: int
    max_characters: int
    max_body_bytes: int


class ServiceStatus(BaseModel):
    """How the service does."""

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
    """One word."""

    status: str


MODELS = (
    PredictRequest,
    PredictResponse,
    StreamLine,
    StreamResult,
    AdapterRecord,
    AdapterList,
    LoadRequest,
    LoadedAdapter,
    ProblemDetails,
    ServiceStatus,
    HealthStatus,
)
"""All that the document refers to."""
