"""`POST /v1/predict`: inputs are checked each by itself, answered together, and written once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from onetrunk.adapters.format.records import REQUEST_WORDS, faults_of
from onetrunk.core.errors import UnknownAdapter
from onetrunk.core.serving.engine.errors import AdapterUnavailable, AnswerFailed, UnknownName
from onetrunk.core.serving.engine.requests import Answer, Input, Result
from onetrunk.core.serving.http.auth import Grant
from onetrunk.core.serving.http.body_reader import cancel_on_disconnect
from onetrunk.core.serving.http.json_codec import write_json
from onetrunk.core.serving.http.problems import Problem, Refusal, problem_of
from onetrunk.core.serving.http.request_context import (
    HttpService,
    RequestContext,
    authorize,
    problem_response,
)
from onetrunk.core.serving.http.schemas import PredictInput, PredictRequest
from onetrunk.core.tasks import JSONObject

_MANY = 1000
"""Answers that are written off the loop, which they would hold up."""
Model = TypeVar("Model", bound=BaseModel)
_log = logging.getLogger(__name__)


async def predict(service: HttpService, request: RequestContext) -> Response:
    """Answer each input; one that is wrong has its problem in its place. All wrong: the first one's problem."""
    grant = authorize(service, request, "predict")
    given = read_inputs(await service.body_reader.read_json(request), service.engine.limits.inputs)
    request.inputs = len(given)
    results = await cancel_on_disconnect(request, lambda: compute_results(service, given, grant))
    problems = [result for result in results if isinstance(result, Problem)]
    if len(problems) == len(results):
        errors = [problem.to_json(input=index) for index, problem in enumerate(problems)]
        return problem_response(problems[0], request, errors=errors)
    if sum(len(result) for result in results if isinstance(result, list)) > _MANY:
        body = await asyncio.to_thread(encode_separately, service, results)
    else:
        body = encode_results(service, results)
    return Response(body, media_type="application/json")


def read_inputs(value: Any, most: int) -> Sequence[Any]:
    """Return the inputs that a body has, none of them looked at. Raises Refusal."""
    inputs = parse_request(PredictRequest, value).inputs
    if len(inputs) > most:
        raise Refusal(
            "too-many-inputs",
            f"{len(inputs)} inputs, at most {most} at once; send several requests, or use /v1/predict/stream",
            count=len(inputs),
            most=most,
        )
    return inputs


def read_input(value: Any, grant: Grant) -> Input:
    """Return one input, checked. Raises Refusal."""
    given = parse_request(PredictInput, value)
    for name in given.adapters:
        grant.require(name)
    return Input(given.text, tuple(given.adapters))


def parse_request(kind: type[Model], value: Any) -> Model:
    """Return `value`, which came as JSON, as a record of this kind. Raises Refusal, which never tells the value."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        faults = "; ".join(faults_of(error, kind, REQUEST_WORDS))
        raise Refusal("invalid-request", faults) from None


async def compute_results(
    service: HttpService, given: Sequence[Any], grant: Grant, *, wait: bool = False
) -> list[list[Answer] | Problem]:
    """Return what comes of each input. Raises what `Engine.answer` raises."""
    checked = [_checked(service, value, grant) for value in given]
    sound = [each for each in checked if isinstance(each, Input)]
    answers = iter(await service.engine.answer(sound, wait=wait) if sound else [])
    return [each if isinstance(each, Problem) else _outcome(next(answers), grant) for each in checked]


def encode_results(service: HttpService, results: Sequence[list[Answer] | Problem]) -> bytes:
    """Return the body with all results."""
    try:
        return write_json({"results": [_result_object(result) for result in results]})
    except (ValueError, TypeError):  # what a plugin answered is no JSON; the others' answers must not suffer
        return encode_separately(service, results)


def encode_separately(service: HttpService, results: Sequence[list[Answer] | Problem]) -> bytes:
    """Return the body with all results, each written by itself."""
    return b'{"results":[' + b",".join(encode_result(service, each) for each in results) + b"]}"


def encode_result(service: HttpService, result: list[Answer] | Problem, **more: object) -> bytes:
    """Return one result with `more` keys as JSON."""
    try:
        return write_json({**more, **_result_object(result)})
    except (ValueError, TypeError):
        if isinstance(result, Problem):  # ours, and no plugin's
            raise
        versions = ", ".join(answer.version for answer in result)
        _log.error("%s gave an answer that is no JSON", versions)
        error = AnswerFailed(versions)
        service.metrics.failed(error)
        return write_json({**more, **_result_object(problem_of(error))})


def _result_object(result: list[Answer] | Problem) -> JSONObject:
    """Return one result as an object."""
    if isinstance(result, Problem):
        return {"error": result.to_json()}
    return {"answers": [answer.to_json() for answer in result]}


def _checked(service: HttpService, value: Any, grant: Grant) -> Input | Problem:
    try:
        return read_input(value, grant)
    except Refusal as refusal:
        service.metrics.failed(refusal)
        return refusal.problem


def _outcome(result: Result, grant: Grant) -> list[Answer] | Problem:
    if isinstance(result, list):
        return result
    if isinstance(result, AdapterUnavailable):
        _log.warning("%s", result)  # why, which only the log may tell
    return problem_of(redacted(result, grant))


def redacted(error: Exception, grant: Grant) -> Exception:
    """Return an error that tells of no adapters but those that `grant` covers."""
    if grant.adapters is None:
        return error
    if isinstance(error, UnknownName):
        return UnknownName(error.name, [name for name in error.known if grant.covers(name)])
    if isinstance(error, UnknownAdapter):  # of the store: names, or versions and aliases of one
        known = [each for each in error.known if grant.covers(each.partition("@")[0])]
        return UnknownAdapter(error.reference, known, Path())
    return error
