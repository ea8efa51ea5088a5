"""Prometheus metrics: requests, queue, batches, adapters and their tiers.

The number of labels is bounded, because each label is a time series and clients choose the served names: at most
`MAX_LABELS` names have a label of their own, and all other names share the label `other`. A scrape (a request to
`/metrics`) removes the labels of names that are no longer served. A tier is where the weights of an adapter are:
`device`, `host` (memory) or `disk`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from onetrunk.core.serving.engine.errors import AdapterUnavailable, AnswerFailed, ExitRefused
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.http.problems import problem_of

if TYPE_CHECKING:
    from onetrunk.core.serving.engine.backend import ServingBackend

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_LABELS = 100
"""Maximum number of served names with a label of their own, and of such versions that failed to answer."""
OTHER = "other"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class _Filtered:
    """A registry without the samples of other adapters. shown: served names and versions."""

    def __init__(self, registry: CollectorRegistry, shown: Collection[str]) -> None:
        self._registry, self._shown = registry, shown

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            samples = family.samples
            family.samples = [
                each for each in samples if each.labels.get("adapter", None) in (None, *self._shown)
            ]
            yield family


class Metrics(EventSink, Collector):
    """The metrics of one service, in a separate registry. Methods may be called from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter, times, sizes = self._counter, self._times, self._sizes
        self._open = Gauge("onetrunk_open_requests", "Requests under way.", registry=self.registry)
        self._requests = counter(
            "requests",
            "Completed requests by route and status (499: client disconnected).",
            "route",
            "status",
        )
        self._seconds = times("request_seconds", "Duration of requests by route.", "route")
        self._errors = counter("errors", "Problems of requests and of single inputs, by type.", "type")
        self._wait = times("queue_wait_seconds", "Queueing delay of texts.")
        self._batch_seconds = times("batch_seconds", "Duration of batches.")
        self._batch_tokens = sizes("batch_tokens", "Tokens per batch.", 16)
        self._batch_texts = sizes("batch_texts", "Texts per batch.", 10)
        self._batch_adapters = sizes("batch_adapters", "Adapters per batch.", 10)
        self._loads = counter("loads", "Successful loads of adapters.")
        self._swaps = counter("swaps", "Loads that replaced a version in service.")
        self._failed_loads = counter("failed_loads", "Failed loads of adapters.")
        self._unloads = counter("unloads", "Unloads of adapters.")
        self._answers = counter("adapter_answers", "Texts answered, by served name.", "adapter")
        self._adapter_seconds = times(
            "adapter_seconds", "Duration of requests for a text, by served name.", "adapter"
        )
        self._failures = counter(
            "adapter_errors", "Texts that a version failed to answer, by version and type.", "adapter", "type"
        )
        self._tokens = counter("adapter_tokens", "Tokens of texts, by served name.", "adapter")
        self._unknown = counter(
            "adapter_unknown_tokens",
            "Tokens that the tokenizer cannot read, by served name; divide by adapter_tokens for their share.",
            "adapter",
        )
        self._by_name: dict[str, tuple[Counter, Histogram]] = {}
        self._failed_types: dict[str, set[str]] = {}  # version -> types of its errors
        self._engine: ServingBackend | None = None
        self._lock = threading.Lock()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"onetrunk_{name}", text, labels, registry=self.registry)

    def _times(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"onetrunk_{name}", text, labels, buckets=_SECONDS, registry=self.registry)

    def _sizes(self, name: str, text: str, powers: int) -> Histogram:
        buckets = [2.0**power for power in range(powers + 1)]
        return Histogram(f"onetrunk_{name}", text, buckets=buckets, registry=self.registry)

    def watch(self, engine: ServingBackend) -> None:
        """Add the queue and the adapters of `engine`, read at each scrape."""
        self._engine = engine
        self.registry.register(self)

    def render(self, covers: Callable[[str], bool] | None = None) -> bytes:
        """Return all metrics in Prometheus's text format (`CONTENT_TYPE`); remove the labels of unloaded names.

        covers: returns whether a served name is shown; None for all names, and for `other`.
        """
        versions = {} if self._engine is None else self._engine.versions()
        if self._engine is not None:
            self._free_labels(versions)
        if covers is None:
            return generate_latest(self.registry)
        shown = {name for name in (*versions, *self._by_name) if covers(name)}
        shown |= {version for name, version in versions.items() if covers(name)}
        return generate_latest(_Filtered(self.registry, shown))  # it only calls `collect`

    def request_started(self) -> None:
        """Count a request as under way."""
        self._open.inc()

    def request_ended(self, route: str, status: int, seconds: float) -> None:
        """Count a completed request."""
        self._open.dec()
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def problem_sent(self, kind: str) -> None:
        """Count a problem. kind: key of `PROBLEMS`."""
        self._errors.labels(kind).inc()

    @override
    def batch(self, tokens: int, texts: int, adapters: int, waits: Sequence[float], seconds: float) -> None:
        self._batch_tokens.observe(tokens)
        self._batch_texts.observe(texts)
        self._batch_adapters.observe(adapters)
        self._batch_seconds.observe(seconds)
        for wait in waits:
            self._wait.observe(wait)

    @override
    def answered(self, name: str, seconds: float) -> None:
        count, times = self._by_name.get(name) or self._new_name(name)
        count.inc()
        times.observe(seconds)

    @override
    def tokenised(self, name: str, tokens: int, unknown: int) -> None:
        if name not in self._by_name:
            self._new_name(name)
        label = name if name in self._by_name else OTHER
        self._tokens.labels(label).inc(tokens)
        self._unknown.labels(label).inc(unknown)

    @override
    def failed(self, error: Exception) -> None:
        kind = problem_of(error).kind
        self.problem_sent(kind)
        if isinstance(error, AdapterUnavailable | AnswerFailed | ExitRefused):
            with self._lock:
                has_label = error.version in self._failed_types or len(self._failed_types) < MAX_LABELS
                if has_label:
                    self._failed_types.setdefault(error.version, set()).add(kind)
                self._failures.labels(error.version if has_label else OTHER, kind).inc()

    @override
    def swapped(self, name: str, version: str, previous: str | None) -> None:
        self._loads.inc()
        if previous is not None:
            self._swaps.inc()

    @override
    def load_failed(self, name: str, error: Exception) -> None:
        self._failed_loads.inc()

    @override
    def unloaded(self, name: str) -> None:
        self._unloads.inc()

    def _free_labels(self, serving: Mapping[str, str]) -> None:
        """Remove the labels of unloaded names; at `MAX_LABELS` failed versions, also those of unloaded versions.

        serving: version by served name.
        """
        with self._lock:
            for name in self._by_name.keys() - serving.keys():
                del self._by_name[name]
                self._answers.remove(name)
                self._adapter_seconds.remove(name)
                for by_name in (self._tokens, self._unknown):
                    by_name.remove(name)
            full = len(self._failed_types) >= MAX_LABELS
            for version in self._failed_types.keys() - set(serving.values()) if full else ():
                for kind in self._failed_types.pop(version):
                    self._failures.remove(version, kind)

    def _new_name(self, name: str) -> tuple[Counter, Histogram]:
        """Return the counter and the histogram of a name; above `MAX_LABELS` names, those of `other`."""
        with self._lock:
            label = name if len(self._by_name) < MAX_LABELS else OTHER
            pair = (self._answers.labels(label), self._adapter_seconds.labels(label))
            if label == name:
                self._by_name[name] = pair
            return pair

    @override
    def collect(self) -> Iterator[Metric]:
        if self._engine is None:
            return
        status, usage = self._engine.status(), self._engine.usage
        for name, text, value in (
            ("queue_texts", "Accepted texts that are not in a batch yet.", status.waiting_texts),
            ("queue_tokens", "Tokens accepted but not yet answered.", status.waiting_tokens),
            ("queue_limit_tokens", "Limit on tokens accepted but not yet answered.", status.limit_tokens),
            ("names", "Served names.", status.adapters),
        ):
            yield GaugeMetricFamily(f"onetrunk_{name}", text, value)
        on_disk = max(0, usage.installed - usage.device_adapters - usage.host_adapters)
        tiers = {"device": usage.device_adapters, "host": usage.host_adapters, "disk": on_disk}
        sizes = {"device": usage.device_bytes, "host": usage.host_bytes}
        evictions = {"device": usage.evictions, "host": usage.host_evictions}
        reloads = {"host": usage.host_loads, "disk": usage.disk_loads}
        for kind, name, text, values in (
            (GaugeMetricFamily, "adapters", "Loaded versions, by tier.", tiers),
            (GaugeMetricFamily, "adapter_bytes", "Bytes of LoRA weights, by tier.", sizes),
            (CounterMetricFamily, "evictions", "Adapters evicted from a tier.", evictions),
            (CounterMetricFamily, "reloads", "Adapters reloaded from a lower tier (host or disk).", reloads),
        ):
            family = kind(f"onetrunk_{name}", text, labels=["tier"])
            for tier, amount in values.items():
                family.add_metric([tier], amount)
            yield family
