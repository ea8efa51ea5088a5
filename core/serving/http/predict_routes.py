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
from onetrunk.core.serving.engine.requests import AdapterAnswer, Result, TextRequest
from onetrunk.core.serving.http import schemas
from onetrunk.core.serving.http.auth import Grant
from onetrunk.core.serving.http.body_limits import unless_gone
from onetrunk.core.serving.http.json_codec import write_json
from onetrunk.core.serving.http.problems import Problem, Refusal, problem_of
from onetrunk.core.serving.http.request_context import Call, Service, granted, problem_response
from onetrunk.core.serving.http.schemas import PredictRequest
from onetrunk.core.tasks import JSONObject

_MANY = 1000
"""Answers that are written off the loop, which they would hold up."""
Model = TypeVar("Model", bound=BaseModel)
_log = logging.getLogger(__name__)


async def predict(service: Service, call: Call) -> Response:
    """Answer each input; one that is wrong has its problem in its place. All wrong: the first one's problem."""
    grant = granted(service, call, "predict")
    given = inputs_of(await service.bodies.json(call), service.engine.limits.inputs)
    call.inputs = len(given)
    results = await unless_gone(call, lambda: results_of(service, given, grant))
    problems = [result for result in results if isinstance(result, Problem)]
    if len(problems) == len(results):
        errors = [problem.to_json(input=index) for index, problem in enumerate(problems)]
        return problem_response(problems[0], call, errors=errors)
    if sum(len(result) for result in results if isinstance(result, list)) > _MANY:
        body = await asyncio.to_thread(written_apart, service, results)
    else:
        body = written(service, results)
    return Response(body, media_type="application/json")


def inputs_of(value: Any, most: int) -> Sequence[Any]:
    """Return the inputs that a body has, none of them looked at. Raises Refusal."""
    inputs = request(PredictRequest, value).inputs
    if len(inputs) > most:
        raise Refusal(
            "too-many-inputs",
            f"{len(inputs)} inputs, at most {most} at once; send several requests, or use /v1/predict/stream",
            count=len(inputs),
            most=most,
        )
    return inputs


def input_of(value: Any, grant: Grant) -> TextRequest:
    """Return one input, checked. Raises Refusal."""
    given = request(schemas.Input, value)
    for name in given.adapters:
        grant.demand(name)
    return TextRequest(given.text, tuple(given.adapters))


def request(kind: type[Model], value: Any) -> Model:
    """Return `value`, which came as JSON, as a record of this kind. Raises Refusal, which never tells the value."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        faults = "; ".join(faults_of(error, kind, REQUEST_WORDS))
        raise Refusal("invalid-request", faults) from None


async def results_of(
    service: Service, given: Sequence[Any], grant: Grant, *, wait: bool = False
) -> list[list[AdapterAnswer] | Problem]:
    """Return what comes of each input. Raises what `Engine.answer` raises."""
    checked = [_checked(service, value, grant) for value in given]
    sound = [each for each in checked if isinstance(each, TextRequest)]
    answers = iter(await service.engine.answer(sound, wait=wait) if sound else [])
    return [each if isinstance(each, Problem) else _outcome(next(answers), grant) for each in checked]


def written(service: Service, results: Sequence[list[AdapterAnswer] | Problem]) -> bytes:
    """Return the body with all results."""
    try:
        return write_json({"results": [result_json(result) for result in results]})
    except (ValueError, TypeError):  # what a plugin answered is no JSON; the others' answers must not suffer
        return written_apart(service, results)


def written_apart(service: Service, results: Sequence[list[AdapterAnswer] | Problem]) -> bytes:
    """Return the body with all results, each written by itself."""
    return b'{"results":[' + b",".join(written_one(service, each) for each in results) + b"]}"


def written_one(service: Service, result: list[AdapterAnswer] | Problem, **more: object) -> bytes:
    """Return one result with `more` keys as JSON."""
    try:
        return write_json({**more, **result_json(result)})
    except (ValueError, TypeError):
        if isinstance(result, Problem):  # ours, and no plugin's
            raise
        versions = ", ".join(answer.version for answer in result)
        _log.error("%s gave an answer that is no JSON", versions)
        error = AnswerFailed(versions)
        service.metrics.failed(error)
        return write_json({**more, **result_json(problem_of(error))})


def result_json(result: list[AdapterAnswer] | Problem) -> JSONObject:
    """Return one result as an object."""
    if isinstance(result, Problem):
        return {"error": result.to_json()}
    return {"answers": [answer.to_json() for answer in result]}


def _checked(service: Service, value: Any, grant: Grant) -> TextRequest | Problem:
    try:
        return input_of(value, grant)
    except Refusal as refusal:
        service.metrics.failed(refusal)
        return refusal.problem


def _outcome(result: Result, grant: Grant) -> list[AdapterAnswer] | Problem:
    if isinstance(result, list):
        return result
    if isinstance(result, AdapterUnavailable):
        _log.warning("%s", result)  # why, which only the log may tell
    return problem_of(narrowed(result, grant))


def narrowed(error: Exception, grant: Grant) -> Exception:
    """Return an error that tells of no adapters but those that `grant` covers."""
    if grant.adapters is None:
        return error
    if isinstance(error, UnknownName):
        return UnknownName(error.name, [name for name in error.known if grant.covers(name)])
    if isinstance(error, UnknownAdapter):  # of the store: names, or versions and aliases of one
        known = [each for each in error.known if grant.covers(each.partition("@")[0])]
        return UnknownAdapter(error.reference, known, Path())
    return error
