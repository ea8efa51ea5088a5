"""Admission control: checks the size of each text, and limits the tokens that are accepted but not answered yet."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onetrunk.core.errors import UsageError
from onetrunk.core.serving.engine.errors import ServingError, TextTooLong, TooManyAdapters, UnknownName
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import Flow, PendingRequest, TextRequest, WorkItem

if TYPE_CHECKING:
    from onetrunk.core.inference.registry import AdapterRegistry

MAX_RETRY_SECONDS = 60
"""Maximum of `AdmissionControl.retry_after`; the load cannot be predicted further ahead."""
_BYTES_PER_TOKEN = 4
"""UTF-8 bytes of an average token; estimates the tokens of a text before it is tokenised."""
_HARD_LIMIT = 1.5
"""Hard limit, as a multiple of `AdmissionControl.limit`."""
_DECAY = 0.9
"""Factor by which the weight of all earlier batches in the measured throughput falls with each new batch."""
_MIN_BATCH_SHARE = 4
"""A batch below 1/4 of `Limits.batch_tokens` does not change the measured throughput: it is too small for it."""
_ASSUMED_BATCHES = 4
"""Number of full batches that each device thread is assumed to answer in `queue_seconds` before it is measured."""
_LONG_SHARE = 0.5
"""Long texts are admitted while those admitted before take at most this share of the time limit of a request."""


def check_size(given: TextRequest, limits: Limits) -> None:
    """Raise TextTooLong or TooManyAdapters if a text exceeds the limits."""
    if len(given.text) > limits.characters:
        raise TextTooLong(len(given.text), limits.characters)
    if len(given.adapters) > limits.adapters:
        raise TooManyAdapters(len(given.adapters), limits.adapters)


def work_items(
    inputs: Sequence[TextRequest], pending: PendingRequest, registry: AdapterRegistry, limits: Limits
) -> list[WorkItem]:
    """Return an item for each valid text. Its loaded versions are held until the caller releases them.

    The result of an invalid text, and of a text without adapters, is stored in `pending` at once.
    """
    items = []
    for index, given in enumerate(inputs):
        try:
            check_size(given, limits)
            held = registry.hold(given.names)
        except ServingError as error:
            pending.settle(index, error)
        except UsageError:
            served = registry.served
            missing = next((name for name in given.names if name not in served), given.names[0])
            pending.settle(index, UnknownName(missing, sorted(served)))
        else:
            if held:
                costs = [_estimated_tokens(given.text)] * len(held)
                own = WorkItem(
                    given.text, given.names, held, pending, index, costs, given.client, given.words
                )
                items.append(own)
            else:
                pending.settle(index, [])
    return items


def _estimated_tokens(text: str) -> int:
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return size // _BYTES_PER_TOKEN + 2


@dataclass(slots=True)
class _Load:
    """The load of one flow.

    tokens: accepted but unanswered tokens.
    answered: answered tokens, each weighted by exp(-age in seconds).
    updated: the time at which `answered` was computed.
    """

    tokens: int
    answered: float
    updated: float

    def rate(self, now: float) -> float:
        """Return the answered tokens per second."""
        return self.answered * math.exp(self.updated - now)


class AdmissionControl:
    """Counts accepted but unanswered tokens by flow, and refuses requests above a limit. Thread-safe.

    `limit` is the number of tokens that the measured throughput answers within `Limits.queue_seconds`: at least
    one full batch, at most `Limits.queue_tokens`.

    Below `limit`, every request is admitted. Between `limit` and 1.5 * `limit`, a request is admitted if the
    unanswered tokens of its flow take at most `queue_seconds`: at the rate at which this flow is answered now, or
    at an equal share of the throughput, whichever is more. Above 1.5 * `limit`, no request is admitted. All flows
    therefore wait about equally long, however much each of them requests.

    A flow counts with at most `limit` tokens, so that a huge request does not block the other flows.

    A text that takes over `queue_seconds` is long. Long texts wait in queues of their own, and do not count towards
    `limit`: other texts wait for their parts only. They are admitted while those admitted before take at most half
    of the time limit of a request, and have at most `Limits.queue_tokens`.

    tokens: accepted but unanswered tokens of all flows, long texts included.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self.limit = min(limits.queue_tokens, _ASSUMED_BATCHES * limits.workers * limits.batch_tokens)
        self.tokens = 0
        self._loads: dict[Flow, _Load] = {}
        self._counted = 0  # the sum over all flows of min(tokens, limit), without long texts
        self._long_tokens = 0
        # Decaying sums over batches. They start with assumed values, because the first batches are slow.
        self._ran_tokens, self._ran_seconds = (
            float(_ASSUMED_BATCHES * limits.batch_tokens),
            limits.queue_seconds,
        )
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Whether the accepted texts reach the limit."""
        return self._counted >= self.limit

    @property
    def answerable_tokens(self) -> int:
        """The tokens that the measured throughput computes in the time limit of a request."""
        return int(self._throughput * self._limits.request_seconds)

    def is_long(self, tokens: int) -> bool:
        """Whether a text of this many tokens is long."""
        return tokens > max(self.limit, self._limits.batch_tokens)

    def admit(self, costs: Iterable[tuple[Flow, int]]) -> set[Flow]:
        """Admit a request as a whole, or not at all.

        costs: pairs of a flow and its tokens.
        Returns the flows that have no capacity left. If there are none, the request is admitted and counted.
        """
        requested = list(costs)
        with self._lock:
            refused = {flow for flow in {flow for flow, _ in requested} if not self._has_capacity(flow)}
            if not refused:
                self._add(requested)
            return refused

    def correct(self, costs: Iterable[tuple[Flow, int]]) -> None:
        """Add tokens to the count of each flow; a negative number subtracts."""
        with self._lock:
            self._add(costs)

    def answered(self, costs: Iterable[tuple[Flow, int]]) -> None:
        """Subtract answered tokens from the count of each flow, and update its rate."""
        now, done = self._clock(), list(costs)
        with self._lock:
            for flow, cost in done:
                if (load := self._loads.get(flow)) is not None:
                    load.answered, load.updated = load.rate(now) + cost, now
            self._add((flow, -cost) for flow, cost in done)

    def busiest(self, flows: Iterable[Flow]) -> Flow:
        """Return the flow with the most unanswered tokens."""
        with self._lock:
            return max(flows, key=lambda flow: self._loads[flow].tokens if flow in self._loads else 0)

    def ran(self, tokens: int, seconds: float) -> None:
        """Update throughput and `limit` with a batch that took a device thread `seconds`. Ignores small batches."""
        limits = self._limits
        if _MIN_BATCH_SHARE * tokens < limits.batch_tokens:
            return
        with self._lock:
            self._ran_tokens = _DECAY * self._ran_tokens + tokens
            self._ran_seconds = _DECAY * self._ran_seconds + max(seconds, 1e-6)
            in_time = max(limits.batch_tokens, int(self._throughput * limits.queue_seconds))
            self.limit = min(limits.queue_tokens, in_time)
            self._counted = sum(min(load.tokens, self.limit) for load in self._loads.values())

    def retry_after(self) -> int:
        """Return the estimated seconds until the tokens accepted so far are answered, 1 to 60."""
        with self._lock:
            seconds = self.tokens / self._throughput
        return min(MAX_RETRY_SECONDS, max(1, math.ceil(seconds)))

    @property
    def _throughput(self) -> float:
        """The tokens per second of all device threads together."""
        return self._limits.workers * self._ran_tokens / self._ran_seconds

    def _has_capacity(self, flow: Flow) -> bool:
        if flow.long:
            in_time = _LONG_SHARE * self._throughput * self._limits.request_seconds
            return self._long_tokens < min(self._limits.queue_tokens, in_time)
        if self._counted >= _HARD_LIMIT * self.limit:
            return False
        load = self._loads.get(flow)
        if load is None or self._counted < self.limit:
            return True
        in_time = self._limits.queue_seconds * load.rate(self._clock())
        return load.tokens < min(self.limit, max(in_time, self.limit / len(self._loads)))

    def _add(self, costs: Iterable[tuple[Flow, int]]) -> None:
        now = self._clock()
        for flow, cost in costs:
            self.tokens += cost
            if flow.long:
                self._long_tokens += cost
                continue
            load = self._loads.setdefault(flow, _Load(0, 0.0, now))
            before = min(load.tokens, self.limit)
            load.tokens += cost
            self._counted += min(load.tokens, self.limit) - before
            if not load.tokens:
                del self._loads[flow]
