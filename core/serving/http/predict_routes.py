"""Handler of `POST /v1/predict`; checks of inputs and encoding of results, which the stream uses too."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from onetrunk.adapters.format.records import REQUEST_STYLE, faults_of
from onetrunk.core.serving.engine.errors import AdapterUnavailable, AnswerFailed
from onetrunk.core.serving.engine.requests import AdapterAnswer, Result, TextRequest
from onetrunk.core.serving.http.auth import Grant
from onetrunk.core.serving.http.problems import Problem, Refusal, problem_of
from onetrunk.core.serving.http.request import (
    JSON_TYPE,
    RequestContext,
    cancel_on_disconnect,
    problem_response,
)
from onetrunk.core.serving.http.schemas import PredictInput, PredictRequest
from onetrunk.core.serving.http.service import HttpService
from onetrunk.core.tasks import JSONObject

_MANY_ANSWERS = 1000
"""Bodies with more answers are encoded in a worker thread, because encoding would block the event loop."""
Outcome: TypeAlias = list[AdapterAnswer] | Problem
"""The answers to an input, one for each adapter in the order requested; or the problem of the input."""
Model = TypeVar("Model", bound=BaseModel)
_log = logging.getLogger(__name__)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


async def predict(service: HttpService, request: RequestContext) -> Response:
    """Answer each input; a wrong input gets a problem. If all are wrong, the response is the first problem."""
    inputs = parse_record(PredictRequest, await service.body_reader.read_json(request)).inputs
    limit = service.engine.limits.inputs
    if len(inputs) > limit:
        detail = (
            f"the request has {len(inputs)} inputs, the limit is {limit}; send several requests, or use "
            "/v1/predict/stream"
        )
        raise Refusal("too-many-inputs", detail, count=len(inputs), most=limit)
    request.inputs = len(inputs)
    outcomes = await cancel_on_disconnect(request, answer(service, inputs, request))
    problems = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
    if len(problems) == len(outcomes):
        errors = [problem.to_json(input=index) for index, problem in enumerate(problems)]
        return problem_response(problems[0], request.id, errors=errors)
    if sum(len(outcome) for outcome in outcomes if isinstance(outcome, list)) > _MANY_ANSWERS:
        body = await asyncio.to_thread(_encode, service, outcomes)
    else:
        body = _encode(service, outcomes)
    return Response(body, media_type=JSON_TYPE)


def parse_record(kind: type[Model], value: Any) -> Model:
    """Return a JSON value as a record of the schema `kind`.

    Raises Refusal (422) with every fault and its path in the value, but without the values, which may be private.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        faults = "; ".join(faults_of(error, kind, REQUEST_STYLE))
        raise Refusal("invalid-request", faults) from None


async def answer(
    service: HttpService,
    values: Sequence[Any],
    request: RequestContext,
    *,
    wait: bool = False,
    most_bytes: int | None = None,
) -> list[Outcome]:
    """Check each input, compute the answers to the valid ones, and return an outcome for each input.

    values: the JSON value of each input, or the Refusal of an input that is not JSON.
    wait: wait for capacity in the queue, instead of raising QueueFull.
    most_bytes: limit of the size of all answers together; None for `Limits.response_bytes`. Inputs whose answers
        may exceed it get a problem.
    Raises Busy if the request as a whole cannot be answered now.
    """
    grant = request.grant
    checked = [_checked(service, value, grant, request.client) for value in values]
    checked = _bounded(service, checked, most_bytes or service.engine.limits.response_bytes)
    valid = [each for each in checked if isinstance(each, TextRequest)]
    results = iter(await service.engine.answer(valid, wait=wait) if valid else [])
    return [each if isinstance(each, Problem) else _outcome(next(results), grant) for each in checked]


def _checked(service: HttpService, value: Any, grant: Grant, client: str) -> TextRequest | Problem:
    """Return an input as a request to the engine, or its problem."""
    try:
        if isinstance(value, Refusal):
            raise value
        record = parse_record(PredictInput, value)
        for name in record.adapters:
            grant.require(name)
    except Refusal as refusal:
        service.metrics.failed(refusal)
        return refusal.problem
    if "words" in record.model_fields_set:
        return TextRequest.of_words(record.words, tuple(record.adapters), client)
    return TextRequest(record.text, tuple(record.adapters), client)


def _bounded(
    service: HttpService, checked: Sequence[TextRequest | Problem], most: int
) -> list[TextRequest | Problem]:
    """Replace the inputs from which on all answers together may have over `most` bytes by a problem."""
    total, bounded = 0, list(checked)
    for index, each in enumerate(checked):
        if isinstance(each, Problem):
            continue
        size = sum(service.engine.answer_bytes(name) for name in each.adapters)
        if total + size > most:
            detail = (
                f"the answers to this input may have {size} bytes, as its adapters have many labels; with those "
                f"before it, the response would have {total + size} bytes, at most {most} are allowed; send fewer "
                "inputs or adapters in a request"
            )
            refusal = Refusal("response-too-large", detail, most=most)
            service.metrics.failed(refusal)
            bounded[index] = refusal.problem
        else:
            total += size
    return bounded


def _outcome(result: Result, grant: Grant) -> Outcome:
    if isinstance(result, list):
        return result
    if isinstance(result, AdapterUnavailable):
        _log.warning("%s", result)  # only the log may have the reason, because it contains a path
    return problem_of(grant.redact(result))


def _encode(service: HttpService, outcomes: Sequence[Outcome]) -> bytes:
    """Return the body of a response. Each outcome is encoded separately, because a plugin's may not be JSON.

    Raises Refusal (413) above `Limits.response_bytes`.
    """
    most, parts, size = service.engine.limits.response_bytes, [], 0
    for outcome in outcomes:
        parts.append(encode_outcome(service, outcome))
        size += 0 if isinstance(outcome, Problem) else len(parts[-1])
        if size > most:
            detail = f"the response has over {most} bytes, the limit; send fewer inputs in a request"
            raise Refusal("response-too-large", detail, most=most)
    return b'{"results":[' + b",".join(parts) + b"]}"


def encode_outcome(service: HttpService, outcome: Outcome, **members: object) -> bytes:
    """Return an outcome as a JSON object; an answer that is not JSON becomes a problem.

    members: further keys of the object.
    """
    try:
        return _ENCODER.encode({**members, **_result(outcome)}).encode()
    except (ValueError, TypeError):
        if isinstance(outcome, Problem):  # not made by a plugin
            raise
        versions = ", ".join(answer.version for answer in outcome)
        _log.error("%s returned an answer that is not JSON; check the task's `decode`", versions)
        error = AnswerFailed(versions)
        service.metrics.failed(error)
        return _ENCODER.encode({**members, **_result(problem_of(error))}).encode()


def _result(outcome: Outcome) -> JSONObject:
    """Return an outcome as an object of the schema `InputAnswers` or `InputProblem`."""
    if isinstance(outcome, Problem):
        return {"error": outcome.to_json()}
    return {"answers": [answer.to_json() for answer in outcome]}
