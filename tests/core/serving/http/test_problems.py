"""Problem details: each error has a kind, and no problem contains private data."""

from __future__ import annotations

from pathlib import Path

import pytest

from onetrunk.adapters.errors import HashMismatch, RemoteConflict, RemoteNotFound, RemoteUnreachable
from onetrunk.core.errors import (
    AdapterRejected,
    ArtifactError,
    BackboneMismatch,
    ReferenceSyntaxError,
    StoreBusy,
    StoreError,
    UnknownAdapter,
    UnknownTask,
)
from onetrunk.core.serving.engine import errors
from onetrunk.core.serving.http.problems import PROBLEMS, Refusal, problem_of

CASES = [
    (errors.QueueFull(9, 8, 3), 429, "queue-full"),
    (errors.OverTime(30, 2), 503, "timeout"),
    (errors.ShuttingDown(), 503, "shutting-down"),
    (errors.UnknownName("x", ["a"]), 404, "unknown-adapter"),
    (errors.TextTooLong(9, 8), 413, "text-too-long"),
    (errors.TooManyTokens(9, 2, 8), 413, "text-too-long"),
    (errors.TextTooSlow(9, 8, 7, 30), 413, "text-too-long"),
    (errors.TooManyAdapters(9, 8), 413, "too-many-adapters"),
    (errors.LoadTimeout("ner", 300), 504, "load-timeout"),
    (errors.AdapterUnavailable("ner@3", "/store/ner/3 is gone"), 503, "adapter-unavailable"),
    (errors.AnswerFailed("ner@3"), 500, "internal"),
    (errors.ExitRefused("ner@3"), 500, "internal"),
    (UnknownAdapter("x", ["a"], Path("/store")), 404, "unknown-reference"),
    (RemoteNotFound("org/x", "no such repo"), 404, "unknown-reference"),
    (RemoteUnreachable("org/x", "no connection"), 503, "remote-unavailable"),
    (RemoteConflict("org/x", "moved"), 503, "remote-unavailable"),
    (StoreBusy(Path("/store"), 30), 503, "remote-unavailable"),
    (StoreError("cannot write to the store /store (read-only)"), 422, "adapter-rejected"),
    (ArtifactError(Path("/store/x"), "it has no head"), 422, "adapter-rejected"),
    (ReferenceSyntaxError("?", "it is odd"), 422, "invalid-request"),
    (HashMismatch(Path("/store/x"), "head", "a" * 64, "b" * 64), 422, "adapter-rejected"),
    (AdapterRejected("x@1", "its probe gives other logits"), 422, "adapter-rejected"),
    (BackboneMismatch("b", "another"), 422, "adapter-rejected"),
    (UnknownTask("t", ["ner"]), 422, "adapter-rejected"),
    (ValueError("a secret"), 500, "internal"),
]


@pytest.mark.parametrize(("error", "status", "kind"), CASES, ids=lambda value: type(value).__name__)
def test_an_error_is_a_problem_of_its_kind(error: Exception, status: int, kind: str) -> None:
    problem = problem_of(error).to_json()
    assert (problem["status"], problem["type"], problem["title"]) == (
        status,
        f"/problems/{kind}",
        PROBLEMS[kind][1],
    )
    assert problem["detail"]


@pytest.mark.parametrize("error", [case[0] for case in CASES if case[1] in (429, 503)], ids=repr)
def test_problems_that_may_pass_have_retry_after(error: Exception) -> None:
    assert int(problem_of(error).headers["Retry-After"]) >= 1


def test_the_message_of_an_unexpected_error_is_not_sent() -> None:
    assert "secret" not in str(problem_of(ValueError("a secret")).to_json())


@pytest.mark.parametrize("error", [case[0] for case in CASES], ids=repr)
def test_no_problem_contains_a_path_of_the_store(error: Exception) -> None:
    assert "/store" not in str(problem_of(error).to_json())


def test_a_problem_lists_a_hundred_names_at_most() -> None:
    problem = problem_of(errors.UnknownName("x", [f"a{i}" for i in range(500)]))
    assert len(problem.to_json()["known"]) == 100


def test_every_error_of_serving_has_a_kind() -> None:
    leaves = {
        error for error in vars(errors).values() if isinstance(error, type) and not error.__subclasses__()
    }
    expected = {error for error in leaves if issubclass(error, errors.ServingError)} - {Refusal}
    assert expected <= {type(case[0]) for case in CASES}
