"""What Prometheus is told: requests, the queue, batches, adapters and where they are.

At most 100 adapter names have a label of their own, the others are counted together as "other": clients choose
names, and every label is a row of each table. A scrape frees the labels of names that are not served any more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from onetrunk.core.serving.engine.errors import AdapterUnavailable, AnswerFailed, ExitRefused
from onetrunk.core.serving.engine.events import Observer
from onetrunk.core.serving.http.problems import problem_of

if TYPE_CHECKING:
    from onetrunk.core.serving.engine.backend import Desk

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_LABELS = 100
"""Adapter names, and versions that failed, that have a label of their own."""
OTHER = "other"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics(Observer):
    """The metrics of one service, in a registry of its own. Safe to share between threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter, times, sizes = self._counter, self._times, self._sizes
        self._open = Gauge("onetrunk_open_requests", "Requests under way.", registry=self.registry)
        self._requests = counter("requests", "Requests that have ended; 499: given up.", "route", "status")
        self._seconds = times("request_seconds", "Time of a request.", "route")
        self._errors = counter("errors", "Problems, of requests and of inputs.", "type")
        self._wait = times("queue_wait_seconds", "Wait of a text for its batch.")
        self._batch_seconds = times("batch_seconds", "Time of a batch.")
        self._batch_tokens = sizes("batch_tokens", "Tokens of a batch.", 16)
        self._batch_texts = sizes("batch_texts", "Texts of a batch.", 10)
        self._batch_adapters = sizes("batch_adapters", "Adapters of a batch.", 10)
        self._loads = counter("loads", "Loads that succeeded.")
        self._swaps = counter("swaps", "Loads that replaced a version.")
        self._failed_loads = counter("failed_loads", "Loads that changed nothing.")
        self._unloads = counter("unloads", "Adapters taken out of service.")
        self._answers = counter("adapter_answers", "Texts that an adapter has answered.", "adapter")
        self._adapter_seconds = times("adapter_seconds", "Time of their requests.", "adapter")
        self._failures = counter(
            "adapter_errors", "Texts that a version failed to answer.", "adapter", "type"
        )
        self._of_route: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._of_adapter: dict[str, tuple[Counter, Histogram]] = {}
        self._failing: dict[str, set[str]] = {}  # the types of its errors, by version
        self._engine: Desk | None = None
        self._lock = threading.Lock()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"onetrunk_{name}", text, labels, registry=self.registry)

    def _times(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"onetrunk_{name}", text, labels, buckets=_SECONDS, registry=self.registry)

    def _sizes(self, name: str, text: str, powers: int) -> Histogram:
        buckets = [2.0**power for power in range(powers + 1)]
        return Histogram(f"onetrunk_{name}", text, buckets=buckets, registry=self.registry)

    def watch(self, engine: Desk) -> None:
        """Tell of the queue and the adapters of `engine`, too, as they are when asked."""
        self._engine = engine
        self.registry.register(_State(engine))

    def render(self) -> bytes:
        """Return all in Prometheus's text format, `CONTENT_TYPE`, without what is not served any more."""
        if self._engine is not None:
            self._free_labels(self._engine.versions())
        return generate_latest(self.registry)

    def request_started(self) -> None:
        """Count a request that has begun."""
        self._open.inc()

    def request_ended(self, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        self._open.dec()
        key = (route, status)
        if key not in self._of_route:
            self._of_route[key] = (self._requests.labels(route, str(status)), self._seconds.labels(route))
        count, times = self._of_route[key]
        count.inc()
        times.observe(seconds)

    def problem_sent(self, kind: str) -> None:
        """Count a problem of this kind."""
        self._errors.labels(kind).inc()

    @override
    def batch(self, tokens: int, texts: int, adapters: int, waits: Sequence[float], seconds: float) -> None:
        """Count a batch."""
        self._batch_tokens.observe(tokens)
        self._batch_texts.observe(texts)
        self._batch_adapters.observe(adapters)
        self._batch_seconds.observe(seconds)
        for wait in waits:
            self._wait.observe(wait)

    @override
    def answered(self, name: str, seconds: float) -> None:
        """Count an answer of an adapter."""
        count, times = self._of_adapter.get(name) or self._named(name)
        count.inc()
        times.observe(seconds)

    @override
    def failed(self, error: Exception) -> None:
        """Count an input that failed, and with which version where it was a version's fault."""
        kind = problem_of(error).kind
        self.problem_sent(kind)
        if isinstance(error, AdapterUnavailable | AnswerFailed | ExitRefused):
            with self._lock:
                known = error.version in self._failing or len(self._failing) < MAX_LABELS
                if known:
                    self._failing.setdefault(error.version, set()).add(kind)
                self._failures.labels(error.version if known else OTHER, kind).inc()

    @override
    def swapped(self, name: str, version: str, previous: str | None) -> None:
        """Count a load, and a swap if it replaced something."""
        self._loads.inc()
        if previous is not None:
            self._swaps.inc()

    @override
    def load_failed(self, name: str, error: Exception) -> None:
        """Count a load that failed."""
        self._failed_loads.inc()

    @override
    def unloaded(self, name: str) -> None:
        """Count an adapter that went."""
        self._unloads.inc()

    def _free_labels(self, serving: Mapping[str, str]) -> None:
        """Remove the labels of names that do not serve; those of failed versions only where none is left.

        serving: version by name.
        """
        with self._lock:
            for name in self._of_adapter.keys() - serving.keys():
                del self._of_adapter[name]
                self._answers.remove(name)
                self._adapter_seconds.remove(name)
            full = len(self._failing) >= MAX_LABELS
            for version in self._failing.keys() - set(serving.values()) if full else ():
                for kind in self._failing.pop(version):
                    self._failures.remove(version, kind)

    def _named(self, name: str) -> tuple[Counter, Histogram]:
        with self._lock:
            label = name if len(self._of_adapter) < MAX_LABELS else OTHER
            pair = (self._answers.labels(label), self._adapter_seconds.labels(label))
            if label == name:
                self._of_adapter[name] = pair
            return pair


class _State(Collector):
    """Reads an engine at the moment of a scrape."""

    def __init__(self, engine: Desk) -> None:
        self._engine = engine

    @override
    def collect(self) -> Iterator[Metric]:
        """Yield the queue, the adapters by tier and what the bank has moved."""
        status, usage = self._engine.status(), self._engine.usage
        gauges = {
            "onetrunk_queue_texts": ("Texts that wait for a batch.", status.waiting_texts),
            "onetrunk_queue_tokens": ("Tokens accepted and not yet answered.", status.waiting_tokens),
            "onetrunk_queue_limit_tokens": ("Tokens that may be so.", status.limit_tokens),
            "onetrunk_names": ("Names that adapters serve under.", status.adapters),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value)
        on_disk = usage.installed - usage.device_adapters - usage.host_adapters
        tiers = {"device": usage.device_adapters, "host": usage.host_adapters, "disk": max(0, on_disk)}
        adapters = GaugeMetricFamily("onetrunk_adapters", "Versions in service, by tier.", labels=["tier"])
        sizes = GaugeMetricFamily("onetrunk_adapter_bytes", "Bytes of their updates.", labels=["tier"])
        for tier, count in tiers.items():
            adapters.add_metric([tier], count)
        sizes.add_metric(["device"], usage.device_bytes)
        sizes.add_metric(["host"], usage.host_bytes)
        moves = CounterMetricFamily("onetrunk_evictions", "Adapters that left a tier.", labels=["tier"])
        moves.add_metric(["device"], usage.evictions)
        moves.add_metric(["host"], usage.host_evictions)
        loads = CounterMetricFamily("onetrunk_reloads", "Adapters that came back from.", labels=["tier"])
        loads.add_metric(["host"], usage.host_loads)
        loads.add_metric(["disk"], usage.disk_loads)
        yield from (adapters, sizes, moves, loads)
