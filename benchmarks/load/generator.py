"""The load: a process of its own that sends requests when they are due and says when each was answered.

    python -m benchmarks.load.generator < load.json > outcome.json

Open loop: when requests arrive is drawn beforehand, whatever the service does, and a time is counted from when the
request was due, not from when it could be sent; a slow service cannot hide by slowing down who asks. Closed loop
(`in_flight`): the next request is sent as soon as one is answered. Nothing heavy is loaded.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from itertools import islice
from typing import Any, NamedTuple

from benchmarks.load.answers import TOLERANCE, distance, own_part
from benchmarks.load.client import LOST, Pool, post

CONNECTIONS = 1000
PATIENCE = 30.0
"""Seconds that are waited for answers after the last request."""
PATH = "/v1/predict"
_CYCLE = 2048
"""Requests that a closed loop has ready; it starts over after them."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests that arrive by chance.

    rate: requests a second (Poisson). weights: how often each adapter is asked. texts: of a request, each with an
    adapter of its own.
    """

    rate: float
    weights: Sequence[float]
    texts: int = 1


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent to the service on `port`, for `seconds`.

    in_flight: requests under way at any time, of the first stream, whose rate then says nothing; 0: an open loop.
    expected: the right record of each text by each version, under `key_of`; None where answers are not looked at.
    """

    port: int
    names: Sequence[str]
    texts: Sequence[str]
    streams: Sequence[Stream]
    seconds: float
    seed: int = 0
    in_flight: int = 0
    expected: Mapping[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Load:
        """Return the load that `dataclasses.asdict` made `values` of."""
        return cls(**{**values, "streams": [Stream(**stream) for stream in values["streams"]]})


class Asked(NamedTuple):
    """A request. due: seconds after the beginning; stream: its index; pairs: a text and an adapter each."""

    due: float
    stream: int
    pairs: tuple[tuple[int, int], ...]


def key_of(version: str, text: int) -> str:
    """Return the key of `Load.expected`."""
    return f"{version} {text}"


def arrivals(load: Load) -> list[Asked]:
    """Return the requests of all streams in order of time; the same for the same load."""
    every = [_arrivals(load, index) for index in range(len(load.streams))]
    if load.in_flight:
        return list(islice(every[0], _CYCLE))
    within = [_until(stream, load.seconds) for stream in every]
    return list(heapq.merge(*within))


def _arrivals(load: Load, index: int) -> Iterator[Asked]:
    stream = load.streams[index]
    rng, due = random.Random(f"{load.seed} {index}"), 0.0
    adapters = range(len(load.names))
    while True:
        due += rng.expovariate(stream.rate)
        texts = [rng.randrange(len(load.texts)) for _ in range(stream.texts)]
        chosen = rng.choices(adapters, stream.weights, k=stream.texts)
        yield Asked(due, index, tuple(zip(texts, chosen, strict=True)))


def _until(requests: Iterator[Asked], seconds: float) -> Iterator[Asked]:
    for asked in requests:
        if asked.due >= seconds:
            return
        yield asked


class Run:
    """One run of a load, and what came of it."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._plan = arrivals(load)
        self._pool = Pool(load.port, CONNECTIONS, self._answered)
        self._open = 0
        self._sent = 0
        self._changed = asyncio.Event()
        self._sending = True
        self._begin = 0.0
        self._calls: list[list[float]] = []
        self._wrong: list[str] = []
        self._checked = self._wrong_count = 0
        self._input = cache(self._encoded)

    async def run(self) -> dict[str, Any]:
        """Send everything and return the outcome, as `Outcome` has it."""
        cpu = time.process_time()
        self._begin = time.perf_counter()
        await (self._closed_loop() if self._load.in_flight else self._open_loop())
        wall = time.perf_counter() - self._begin
        self._sending = False
        await self._rest()
        self._pool.close()
        return {
            "wall": wall,
            "cpu": time.process_time() - cpu,
            "total_wall": time.perf_counter() - self._begin,
            "unanswered": self._open,
            "calls": self._calls,
            "checked": self._checked,
            "wrong_count": self._wrong_count,
            "wrong": self._wrong,
        }

    async def _open_loop(self) -> None:
        for asked in self._plan:
            wait = asked.due - (time.perf_counter() - self._begin)
            await asyncio.sleep(max(0.0, wait))  # also where it is late, or no answer would be read
            self._send(asked)

    async def _closed_loop(self) -> None:
        for _ in range(self._load.in_flight):
            self._next()
        await asyncio.sleep(self._load.seconds)

    def _next(self) -> None:
        now = time.perf_counter() - self._begin
        self._send(self._plan[self._sent % len(self._plan)]._replace(due=now))

    def _send(self, asked: Asked) -> None:
        self._open += 1
        self._sent += 1
        sent = time.perf_counter() - self._begin
        body = b'{"inputs":[' + b",".join(map(self._input, asked.pairs)) + b"]}"
        self._pool.ask((asked, sent), post(PATH, body))

    def _encoded(self, pair: tuple[int, int]) -> bytes:
        text, adapter = pair
        given = {"text": self._load.texts[text], "adapters": [self._load.names[adapter]]}
        return json.dumps(given, separators=(",", ":")).encode()

    def _answered(self, about: tuple[Asked, float], status: int, body: bytes) -> None:
        asked, sent = about
        ended = time.perf_counter() - self._begin
        self._open -= 1
        if status == 200 and b'"error":' in body:
            status = 207  # an input of it failed
        record = [asked.due, sent - asked.due, ended - asked.due, status, asked.stream]
        self._calls.append([*record, asked.pairs[0][1], len(asked.pairs)])
        if self._load.expected is not None and status == 200:
            self._check(asked, body)
        if self._load.in_flight and self._sending and status != LOST:
            self._next()
        self._changed.set()

    def _check(self, asked: Asked, body: bytes) -> None:
        """Compare each answer with the right one of the version that it names."""
        expected = self._load.expected or {}
        for (text, adapter), result in zip(asked.pairs, json.loads(body)["results"], strict=True):
            (answer,) = result["answers"]
            self._checked += 1
            name, right = self._load.names[adapter], expected.get(key_of(answer["version"], text))
            named = (answer["adapter"], answer["version"].rpartition("@")[0]) == (name, name)
            off = math.inf if right is None or not named else distance(own_part(answer), right)
            if off > TOLERANCE:
                self._wrong_count += 1
                if len(self._wrong) < _SHOWN:
                    self._wrong.append(f"{name} on {self._load.texts[text]!r}: {answer}, right is {right}")

    async def _rest(self) -> None:
        """Wait until everything is answered, or patience ends."""
        try:
            async with asyncio.timeout(PATIENCE):
                while self._open:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return  # the outcome says how many there are


def main() -> None:
    """Read a load, run it, print what came of it."""
    load = Load.from_json(json.load(sys.stdin))
    run = Run(load)
    if find_spec("uvloop"):
        import uvloop

        outcome = uvloop.run(run.run())
    else:
        outcome = asyncio.run(run.run())
    json.dump(outcome, sys.stdout)


if __name__ == "__main__":
    main()
