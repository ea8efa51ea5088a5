"""What every workload of the load benchmark shares: adapters, texts, the right answers, and loads made of them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.load.adapters import Stock
from benchmarks.load.generator import Load, Stream, key_of
from benchmarks.load.outcome import generate
from benchmarks.load.services import Kind, Place, Service
from onetrunk.core.backbones.backbone import Backbone
from onetrunk.core.inference.predictor import OneTrunk

IN_FLIGHT = 96
"""Texts under way in a closed loop: four batches of 256 tokens, two under way and two that wait."""
_PLAIN = re.compile(r"[a-z0-9 ]+")


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long everything takes.

    seconds: of a load at one rate; short: of one whose figures are rough; soak: of the longest. steps: of a
    bisection. rates: texts a second at which everyone is measured who can answer so many.
    """

    seconds: float
    short: float
    soak: float
    rounds: int
    steps: int
    rates: Sequence[float]


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Short texts for the adapters of a stock, by their popularity. texts_per_request: each for its own adapter."""

    backbone: Backbone
    stock: Stock
    texts: Sequence[str]
    texts_per_request: int
    place: Place
    lengths: Lengths

    @property
    def weights(self) -> list[float]:
        """How often each adapter is asked: the i-th with weight 1 / i."""
        return [1 / (i + 1) for i in range(len(self.stock.names))]

    def stream(self, rate: float) -> Stream:
        """Return requests for all adapters, `rate` texts a second."""
        return Stream(rate / self.texts_per_request, self.weights, self.texts_per_request)

    def load(self, service: Service, streams: Sequence[Stream], seconds: float, seed: int = 0) -> Load:
        """Return a load of `service`."""
        return Load(service.port, self.stock.names, self.texts, streams, seconds, seed)

    def rate(self, service: Service, rate: float, seconds: float, seed: int = 0) -> dict[str, Any]:
        """Return the figures of an open loop of `rate` texts a second."""
        return generate(self.load(service, [self.stream(rate)], seconds, seed)).summary()

    def saturated(self, service: Service, seconds: float, seed: int = 0) -> dict[str, Any]:
        """Return the figures of a closed loop with `IN_FLIGHT` texts under way.

        Raises RuntimeError where none is answered.
        """
        load = self.load(service, [self.stream(self.texts_per_request)], seconds, seed)
        in_flight = max(2, IN_FLIGHT // self.texts_per_request)
        outcome = generate(replace(load, in_flight=in_flight))
        figures = {**outcome.summary(), "answered": outcome.steady_rate}
        if not figures["answered"]:
            raise RuntimeError(f"{service.name} answered nothing in a closed loop: {figures}")
        return figures

    def started(self, kind: Kind, name: str) -> Service:
        """Start a service, wait until it is ready and warm it up."""
        service = kind.start(name, self.stock, self.place)
        try:
            self.warm(service)
        except BaseException:
            service.stop()
            raise
        return service

    def warm(self, service: Service) -> None:
        """Wait until a service is ready, and let it run once whatever is slow the first time."""
        service.wait_ready()
        self.saturated(service, self.lengths.short, seed=-1)


def solo(trunk: OneTrunk, texts: Sequence[str], versions: Sequence[str]) -> dict[str, Any]:
    """Return the record of each text by each version, asked one text at a time; the trunk loads the versions."""
    right = {}
    for version in versions:
        trunk.load(version)
        for i, text in enumerate(texts):
            ((answer,),) = trunk.predict([text], [version])
            right[key_of(version, i)] = answer.result
    return right


def is_plain(text: str) -> bool:
    """Tell whether every splitter of words cuts `text` at its spaces."""
    return bool(_PLAIN.fullmatch(text))


def in_turns(
    turns: Mapping[str, Callable[[int], dict[str, Any]]], rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """Let each of `turns` measure once a round, in another order each time; return each one's records."""
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in turns}
    for number in range(rounds):
        order = list(turns)
        random.Random(number).shuffle(order)
        for name in order:
            records[name].append(turns[name](number))
    return records


def median_by(records: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    """Return the record that is in the middle by `key`, the lower one of two."""
    return sorted(records, key=lambda record: record[key])[(len(records) - 1) // 2]
