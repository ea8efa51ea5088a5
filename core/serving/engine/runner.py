"""The runner: what the device threads do with the queue, and how results reach the event loop.

A device thread tokenises the texts of a batch, and computes them. A text that is too long for one batch is split
into parts, which are queued again. Long texts are tokenised and decoded on threads of their own. On a CPU, a device
thread that computes a part also computes short texts of other flows, between two products of the part.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress

import numpy as np

from onetrunk.core.errors import OneTrunkError
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.serving.engine.admission import AdmissionControl
from onetrunk.core.serving.engine.cpu_threads import lower_priority
from onetrunk.core.serving.engine.errors import TextTooSlow
from onetrunk.core.serving.engine.events import EventSink
from onetrunk.core.serving.engine.executor import Executor
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import Flow, Result, WorkItem
from onetrunk.core.serving.engine.scheduler import Queued, Scheduler
from onetrunk.core.serving.engine.split_text import SplitText, TextPart
from onetrunk.core.serving.engine.stats import SlidingWindow
from onetrunk.core.trunk.preemption import preemptible

_PRODUCTS = 4
"""Products of a layer. Before each of them, a part can be preempted."""
_log = logging.getLogger(__name__)


class Runner:
    """Computes what is queued in `scheduler`. Thread-safe.

    changed: called on the event loop after results were stored in their requests.
    scheduler: the queue and the device threads.
    queueing_delays: how long the items of the batches were queued.
    """

    def __init__(
        self,
        trunk: OneTrunk,
        limits: Limits,
        admission: AdmissionControl,
        events: EventSink,
        changed: Callable[[], None],
    ) -> None:
        self._trunk, self._limits, self._admission, self._events = trunk, limits, admission, events
        self._changed = changed
        self._unknown: int | None = trunk.backbone.encoder.unknown
        self._split: dict[WorkItem, SplitText] = {}  # the texts that are computed in parts
        self._one_at_a_time = threading.Lock()  # held while a long text is tokenised
        self._offloaded: set[threading.Thread] = set()
        self._executor = Executor(trunk, limits.batch_tokens, limits.input_tokens)
        self._preempts = trunk.trunk.device.type == "cpu"
        self._points = _PRODUCTS * trunk.trunk.depth
        self.queueing_delays = SlidingWindow()
        self.scheduler = Scheduler(self._run, limits.batch_tokens, limits.wait_ms / 1e3, limits.workers)

    def drop(self, items: Sequence[WorkItem]) -> None:
        """Remove the texts of an abandoned request from the queue; what is in a batch is computed to its end."""
        self._release(item for item in self.scheduler.drop(items) if isinstance(item, WorkItem))
        for item in items:
            if (text := self._split.get(item)) is not None:
                self._drop_parts(text)

    def _drop_parts(self, text: SplitText) -> None:
        for part in self.scheduler.drop(text.cancel()):
            if isinstance(part, TextPart):
                self._end_part(part)

    def _run(self, batch: list[Queued]) -> None:
        """Compute a batch, on a device thread. Every text gets a result and is released, even if an event fails."""
        texts = [each for each in batch if isinstance(each, WorkItem)]
        for item in texts:
            if item.long:
                self._offload(self._prepare_long, item)
        try:
            self._run_texts([item for item in texts if not item.long])
        finally:
            self._run_parts([each for each in batch if isinstance(each, TextPart)])

    def close(self) -> None:
        """Compute what is queued, and end the threads."""
        while threads := list(self._offloaded):
            threads[0].join()
        self.scheduler.close()

    def _offload(self, work: Callable[[WorkItem], None], item: WorkItem) -> None:
        """Run `work` on a thread of its own, because it computes for long without the device."""

        def run() -> None:
            lower_priority()
            try:
                work(item)
            except BaseException:  # it must not be lost
                _log.exception("an error escaped from the preparation or the decoding of a long text")
            finally:
                self._offloaded.discard(threading.current_thread())

        thread = threading.Thread(target=run, name="onetrunk-long-text", daemon=True)
        self._offloaded.add(thread)
        thread.start()

    def _prepare_long(self, item: WorkItem) -> None:
        with self._one_at_a_time:
            self._prepare([item])

    def _run_texts(self, texts: Sequence[WorkItem]) -> None:
        began = time.perf_counter()
        if items := self._prepare(texts):
            preemption = _Preemption(self, items)
            with preemption.active():
                results = self._executor.answer(items)
            try:
                self._record(items, began, time.perf_counter() - began - preemption.seconds)
            finally:
                self._deliver(list(zip(items, results, strict=True)))

    def _run_parts(self, parts: Sequence[TextPart]) -> None:
        if not parts:
            return
        began, preemption = time.perf_counter(), _Preemption(self, parts)
        with preemption.active():
            errors = self._executor.compute_parts(parts)
        try:
            self._record(parts, began, time.perf_counter() - began - preemption.seconds)
        finally:
            for part in parts:
                self._end_part(part, errors.get(part))

    def _record(self, batch: Sequence[Queued], began: float, seconds: float) -> None:
        """Report a batch that began at `began` and took `seconds`."""
        tokens = sum(each.cost for each in batch)
        self._admission.ran(tokens, seconds)
        delays = [began - each.queued_at for each in batch]
        self.queueing_delays.record(max(delays))
        texts = [each.text.item if isinstance(each, TextPart) else each for each in batch]
        versions = len({version.key for item in texts for version in item.held})
        self._events.batch(tokens, len(batch), versions, delays, seconds)

    def _prepare(self, items: Sequence[WorkItem]) -> list[WorkItem]:
        """Tokenise texts. Returns those that can be computed in one batch.

        Queues the first parts of the longer ones, and delivers the results of those that cannot be computed.
        """
        settled: list[tuple[WorkItem, Result]] = []
        ready: list[WorkItem] = []
        long: list[WorkItem] = []
        for item, result in self._executor.prepare(items):
            is_long = result is None and self._is_long(item)
            if is_long:
                result = self._too_slow(item)
            if result is not None:
                settled.append((item, result))
            else:
                ready.append(item)
                long += [item] if is_long else []
        self._correct_costs(ready, long)
        self._deliver(settled)
        for item in long:
            self._start_parts(item)
        return [item for item in ready if item not in long]

    def _is_long(self, item: WorkItem) -> bool:
        """Whether a tokenised text is computed in parts."""
        if item.long:
            return True
        pieces = sum(len(encoded.windows) for encoded in item.encoded)
        return pieces > 1 and sum(encoded.tokens for encoded in item.encoded) > self._limits.batch_tokens

    def _too_slow(self, item: WorkItem) -> TextTooSlow | None:
        """Return the error of a text that could not be answered in time, even alone."""
        tokens = sum(encoded.tokens for encoded in item.encoded)
        most, seconds = self._admission.answerable_tokens, self._limits.request_seconds
        return TextTooSlow(len(item.text), tokens, most, seconds) if tokens > most else None

    def _correct_costs(self, items: Sequence[WorkItem], long: Sequence[WorkItem]) -> None:
        """Replace the estimated costs of tokenised items by their numbers of tokens.

        The queue charges the parts of `long` items one by one.
        """
        by_queue: Counter[Flow] = Counter()
        for item in items:
            costs = [encoded.tokens for encoded in item.encoded]
            for name, encoded in zip(item.names, item.encoded, strict=True):
                self._events.tokenised(name, encoded.rows - 2, encoded.count(self._unknown))
            differences = [new - old for new, old in zip(costs, item.costs, strict=True)]
            self._admission.correct(zip(item.flows, differences, strict=True))
            by_queue[item.flow] += -item.cost if item in long else sum(differences)
            item.costs = costs
        self.scheduler.charge(by_queue)

    def _start_parts(self, item: WorkItem) -> None:
        self._split[item] = text = SplitText(item, self._limits.batch_tokens)
        if not (parts := text.start(self._limits.workers)):
            self._deliver([(item, [])])
            del self._split[item]
            return
        self.scheduler.put_back(parts)
        if item.request.abandoned:  # since `start`, so that `drop` may have missed the parts
            self._drop_parts(text)

    def _end_part(self, part: TextPart, error: OneTrunkError | None = None) -> None:
        """Release a part that was computed or dropped; queue the next one, or deliver the result of the text."""
        text, item = part.text, part.text.item
        costs = [(item.flows[adapter], text.tokens(adapter, window)) for adapter, window in part.pieces]
        if item.request.abandoned:
            self._admission.correct((flow, -cost) for flow, cost in costs)
        else:
            self._admission.answered(costs)
        following, is_last = text.ended(part, error)
        if following:
            self.scheduler.put_back(following)
        elif is_last and item.long and not item.request.abandoned:
            self._offload(self._finish, item)
        elif is_last:
            self._finish(item)

    def _finish(self, item: WorkItem) -> None:
        """Decode a text whose parts are computed, and deliver its result."""
        text, abandoned = self._split[item], item.request.abandoned
        logits = [np.empty(0) if own is None else own for own in text.logits]
        result = text.error or ([] if abandoned else self._executor.decode(item, logits))
        self._deliver([(item, result)])
        del self._split[item]

    def _deliver(self, settled: Sequence[tuple[WorkItem, Result]]) -> None:
        """Release items, and send their results to the event loop."""
        self._release(item for item, _ in settled)
        if settled:
            with suppress(RuntimeError):  # the loop is closed, so no caller waits
                request = settled[0][0].request
                request.loop.call_soon_threadsafe(self._settle, settled)

    def _settle(self, settled: Sequence[tuple[WorkItem, Result]]) -> None:
        """Store results in their requests; runs on the event loop."""
        for item, result in settled:
            item.request.settle(item.index, result)
        self._changed()

    def _release(self, items: Iterable[WorkItem]) -> None:
        """Release the loaded versions and the capacity of items."""
        for item in items:
            self._trunk.registry.release(item.held)
            if item.request.abandoned or item in self._split:
                # Not answered, so it must not raise the measured rate of its flows; parts are counted one by one.
                self._admission.correct((flow, -cost) for flow, cost in item.charges)
            else:
                self._admission.answered(item.charges)


class _Preemption:
    """Computes urgent items while a device thread computes a batch that is longer than usual.

    While the batch runs, the urgent items cost at most about as many tokens as the batch.

    seconds: time that the urgent items took.
    """

    def __init__(self, runner: Runner, batch: Sequence[Queued]) -> None:
        self._runner = runner
        self._flows = {each.flow for each in batch}
        self._tokens = sum(each.cost for each in batch)
        self._grant = max(1.0, self._tokens / runner._points)
        self._credit = 0.0
        self.seconds = 0.0

    def active(self) -> AbstractContextManager[None]:
        """Return a context in which the forward pass of this thread can be preempted, if it is long enough."""
        long = self._tokens > self._runner._limits.batch_tokens
        return preemptible(self._run if long and self._runner._preempts else None)

    def _run(self) -> None:
        """Compute the next urgent items, if there are any."""
        self._credit += self._grant
        if self._credit < 0:
            return
        began = time.perf_counter()
        items = self._runner.scheduler.take_urgent(int(self._credit) + 1, self._flows)
        if items:
            self._credit -= sum(each.cost for each in items)
            try:
                with preemptible(None):
                    self._runner._run(items)
            except BaseException:  # it must not fail the part that is computed
                _log.exception("an error escaped from the computation of a batch of %d texts", len(items))
            self.seconds += time.perf_counter() - began
