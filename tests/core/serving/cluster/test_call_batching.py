"""Requests for one adapter share a call to a replica; each has its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from onetrunk.core.serving.cluster.call_batching import MAX_TEXTS, CallBatcher
from onetrunk.core.serving.engine.requests import TextRequest

Calls = list[tuple[str, list[Sequence[TextRequest]], bool]]


def lines(calls: Calls, seconds: float = 0.0, fails: bool = False) -> CallBatcher[list[str]]:
    """Return `CallBatcher` that record each call in `calls` and answer each request with its texts."""

    async def call(key: str, requests: list[Sequence[TextRequest]], wait: bool) -> list[list[str]]:
        calls.append((key, requests, wait))
        await asyncio.sleep(seconds)
        if fails:
            raise RuntimeError("lost")
        return [[each.text for each in inputs] for inputs in requests]

    return CallBatcher(call, 0.01)


def some(*texts: str) -> list[TextRequest]:
    return [TextRequest(text, ("mood",)) for text in texts]


def test_requests_for_an_adapter_share_a_call_and_each_has_its_own_outcome() -> None:
    calls: Calls = []

    async def ask() -> list[list[str]]:
        shared = lines(calls)
        wanted: list[tuple[str, list[TextRequest], bool]] = [
            ("a", some("1"), False),
            ("a", some("2", "3"), False),
            ("b", some("4"), False),
            ("a", some("5"), True),
        ]
        return await asyncio.gather(*(shared.send(*each) for each in wanted))

    assert asyncio.run(ask()) == [["1"], ["2", "3"], ["4"], ["5"]]
    assert [(key, len(requests), wait) for key, requests, wait in calls] == [
        ("a", 2, False),
        ("b", 1, False),
        ("a", 1, True),
    ]


def test_a_full_call_takes_no_more_requests() -> None:
    calls: Calls = []

    async def ask() -> None:
        shared = lines(calls)
        await asyncio.gather(*(shared.send("a", some("x"), False) for _ in range(MAX_TEXTS + 1)))

    asyncio.run(ask())
    assert [len(requests) for _, requests, _ in calls] == [MAX_TEXTS, 1]


def test_cancelling_one_request_leaves_the_others_in_its_call() -> None:
    async def ask() -> list[str]:
        shared = lines([], seconds=0.05)
        first = asyncio.create_task(shared.send("a", some("1"), False))
        second = asyncio.create_task(shared.send("a", some("2"), False))
        await asyncio.sleep(0.03)
        first.cancel()
        return await second

    assert asyncio.run(ask()) == ["2"]


def test_a_call_whose_requests_are_all_cancelled_ends_and_the_next_request_starts_another() -> None:
    ended: list[str] = []

    async def call(key: str, requests: list[Sequence[TextRequest]], wait: bool) -> list[int]:
        try:
            await asyncio.sleep(0.05 if requests[0][0].text == "quick" else 60)
        except asyncio.CancelledError:
            ended.append(requests[0][0].text)
            raise
        return [len(inputs) for inputs in requests]

    async def ask() -> int:
        shared: CallBatcher[int] = CallBatcher(call, 0.0)
        asked = [asyncio.create_task(shared.send("a", some("slow"), False)) for _ in range(2)]
        await asyncio.sleep(0.02)
        for each in asked:
            each.cancel()
        return await shared.send("a", some("quick"), False)

    assert asyncio.run(ask()) == 1
    assert ended == ["slow"]


def test_a_call_that_fails_fails_every_request_in_it() -> None:
    async def ask() -> list[object]:
        shared = lines([], fails=True)
        return await asyncio.gather(
            *(shared.send("a", some("x"), False) for _ in range(2)), return_exceptions=True
        )

    assert [str(each) for each in asyncio.run(ask())] == ["lost", "lost"]
