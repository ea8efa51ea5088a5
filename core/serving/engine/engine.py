"""The engine: requests of all adapters in, answers out, while adapters come, go and are swapped.

A request's way: admitted and queued on the event loop, tokenised and answered in a batch on a device thread, and
back to the loop, which never waits for any of it. A request holds the versions that served when it came in.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from onetrunk.adapters.methods.bank import Usage
from onetrunk.core.backbones.device import name_of
from onetrunk.core.errors import OneTrunkError, UsageError
from onetrunk.core.inference.predictor import OneTrunk
from onetrunk.core.inference.registry import ServedName
from onetrunk.core.serving.engine.accepting import Accepting
from onetrunk.core.serving.engine.adapter_loader import Loader
from onetrunk.core.serving.engine.admission import Admission
from onetrunk.core.serving.engine.backend import About
from onetrunk.core.serving.engine.errors import OverTime, QueueFull, ShuttingDown, UnknownName
from onetrunk.core.serving.engine.events import Observer
from onetrunk.core.serving.engine.executor import Answering
from onetrunk.core.serving.engine.limits import Limits
from onetrunk.core.serving.engine.requests import Input, Pending, Result, Work, spread
from onetrunk.core.serving.engine.scheduler import Batcher
from onetrunk.core.serving.engine.stats import Activities, Activity
from onetrunk.core.serving.engine.status import Served, Status


class Engine:
    """Serves the adapters of one trunk. What is awaited belongs to one event loop; all else, to any thread.

    trunk: what serves; adapters that it has loaded already are served under their references.
    """

    def __init__(
        self, trunk: OneTrunk, limits: Limits | None = None, observer: Observer | None = None
    ) -> None:
        self.trunk = trunk
        self.limits = limits or Limits.on(trunk.trunk.device.type)
        self.observer = observer or Observer()
        self._accepting = Accepting(trunk.registry, self.limits)
        self._admission = Admission(self.limits)
        self._answering = Answering(trunk, self.limits.batch_tokens, self.limits.input_tokens)
        wait = self.limits.wait_ms / 1e3
        self._batcher = Batcher(self._run, self.limits.batch_tokens, wait, self.limits.workers)
        self._loader = Loader(trunk.registry, self.observer)
        self._of = Activities()
        self._requests, self._waits = Activity(), Activity()
        self._began = time.monotonic()
        self._open = 0
        self._changed = asyncio.Event()  # some room, or the last request's end
        self._draining = False

    async def answer(self, inputs: Sequence[Input], *, wait: bool = False) -> list[Result]:
        """Return what comes of each input; an input that is refused, or fails, fails alone.

        wait: for room in the queue; else raises QueueFull where there is none. Raises OverTime after
        `Limits.request_seconds`, without the wait for room, and ShuttingDown once `drain` was called. Whoever stops
        waiting takes what is still queued out of the queue.
        """
        with self._counted():
            began, pending = time.perf_counter(), Pending(len(inputs))
            works = self._accepting.works(inputs, pending)
            if works:
                await self._admit(works, wait)
                self._batcher.put(works)
                await self._settled(works, pending)
            self._note(inputs, pending, time.perf_counter() - began)
            return spread(inputs, pending.results)

    async def load(self, name: str, reference: str) -> tuple[Served, str | None]:
        """Put what `reference` means now in service as `name`; return it and the version that it replaced.

        Loads and unloads of one name take place in the order asked, even where whoever asked stops waiting. Raises
        what `OneTrunk.load` raises; then what served before goes on serving.
        """
        post, before = await self._loader.load(name, reference)
        return self._served(name, post), None if before is None else before.version

    async def unload(self, name: str) -> None:
        """Take `name` out of service; what is under way is answered. Raises UnknownName."""
        try:
            await self._loader.unload(name)
        except UsageError:
            raise UnknownName(name, sorted(self.trunk.registry.served)) from None
        self._of.forget(name)

    def versions(self) -> dict[str, str]:
        """Return the version that serves under each name."""
        return {name: post.version for name, post in self.trunk.registry.served.items()}

    def served(self) -> list[Served]:
        """Return what is served, by name."""
        return [self._served(name, post) for name, post in sorted(self.trunk.registry.served.items())]

    def one(self, name: str) -> Served:
        """Return what serves as `name`. Raises UnknownName."""
        posts = self.trunk.registry.served
        if name not in posts:
            raise UnknownName(name, sorted(posts))
        return self._served(name, posts[name])

    def status(self) -> Status:
        """Return how the engine does."""
        texts, _ = self._batcher.waiting
        return Status(
            state=self._state(),
            waiting_texts=texts,
            waiting_tokens=self._admission.tokens,
            limit_tokens=self._admission.limit,
            wait_p95=self._waits.p95(),
            requests_per_second=self._requests.rate(),
            adapters=len(self.trunk.registry.served),
            uptime=time.monotonic() - self._began,
        )

    @property
    def about(self) -> About:
        """What computes."""
        own = self.trunk.backbone
        return About(own.public_name, str(own.device), name_of(own.dtype))

    @property
    def usage(self) -> Usage:
        """What the bank holds, and has moved."""
        return self.trunk.bank.usage

    async def drain(self) -> None:
        """Take no more requests, and return when all that were accepted have been answered."""
        self._draining = True
        while self._open:
            await self._next_end()

    def close(self) -> None:
        """End the threads, after what is queued has been answered; a load under way is waited for a little only."""
        self._draining = True
        self._batcher.close()
        self._loader.close()

    def _state(self) -> str:
        if not self._batcher.alive:
            return "broken"
        if self._draining:
            return "draining"
        return "overloaded" if self._admission.tokens >= self._admission.limit else "ready"

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a request that is under way. Raises ShuttingDown."""
        if self._draining:
            raise ShuttingDown
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            self._changed.set()

    async def _next_end(self) -> None:
        """Return when some request has ended."""
        self._changed.clear()
        await self._changed.wait()

    async def _admit(self, works: Sequence[Work], wait: bool) -> None:
        for work in works:
            work.flow = self._admission.busiest(work.names)
        charges = [charge for work in works for charge in work.charges]
        try:
            while lacking := self._admission.admit(charges):
                if not wait:
                    own = self._admission
                    self._batcher.refused(lacking)
                    raise QueueFull(own.tokens, own.limit, own.retry_after())
                await self._next_end()
        except BaseException:
            for work in works:
                self.trunk.registry.release(work.held)
            raise

    async def _settled(self, works: Sequence[Work], pending: Pending) -> None:
        """Return when every result is there."""
        seconds = self.limits.request_seconds
        # Cheaper than asyncio.timeout, for which each request would pay.
        late = pending.loop.call_later(seconds, pending.end)
        try:
            await pending.done
            if pending.left:
                raise OverTime(seconds, self._admission.retry_after())
        finally:
            late.cancel()
            if pending.left:
                pending.gone = True
                self._end(self._batcher.drop(works))

    def _prepare(self, works: Sequence[Work]) -> list[Work]:
        """Tokenise works; return those that can be answered. The others end here."""
        settled: list[tuple[Work, Result]] = []
        ready: list[Work] = []
        for work, error in self._answering.prepare(works):
            if error is not None:
                settled.append((work, error))
            elif work.owner.gone:
                settled.append((work, []))
            else:
                ready.append(work)
        self._recharge(ready)
        self._deliver(settled)
        return ready

    def _recharge(self, works: Sequence[Work]) -> None:
        """Put what works really cost in the place of the guess."""
        flows: Counter[str] = Counter()
        for work in works:
            costs = [encoded.tokens for encoded in work.encoded]
            more = [new - old for new, old in zip(costs, work.costs, strict=True)]
            self._admission.correct(zip(work.names, more, strict=True))
            flows[work.flow] += sum(more)
            work.costs = costs
        self._batcher.charge(flows)

    def _run(self, batch: list[Work]) -> None:
        """Answer a batch; on a device thread. Whatever happens, each work has a result and ends."""
        began = time.perf_counter()
        works = self._prepare(batch)
        if not works:
            return
        results = self._answering.answer(works)
        try:
            self._measure(works, began, time.perf_counter() - began)
        finally:
            self._deliver(list(zip(works, results, strict=True)))

    def _measure(self, works: Sequence[Work], began: float, seconds: float) -> None:
        """Tell of a batch that has run."""
        tokens = sum(sum(work.costs) for work in works)
        self._admission.ran(tokens, seconds)
        waits = [began - work.since for work in works]
        self._waits.record(max(waits))
        adapters = len({resident.key for work in works for resident in work.held})
        self.observer.batch(tokens, len(works), adapters, waits, seconds)

    def _deliver(self, settled: Sequence[tuple[Work, Result]]) -> None:
        """End works and hand their results to the event loop, which then looks for room, too."""
        self._end([work for work, _ in settled])
        if settled:
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                settled[0][0].owner.loop.call_soon_threadsafe(self._settle, settled)

    def _settle(self, settled: Sequence[tuple[Work, Result]]) -> None:
        """Hand results to those who wait for them; on the event loop."""
        for work, result in settled:
            work.owner.settle(work.index, result)
        self._changed.set()

    def _end(self, works: Iterable[Work]) -> None:
        """Give back what works hold: their adapters, and their room."""
        for work in works:
            self.trunk.registry.release(work.held)
            if work.owner.gone:  # what nobody waits for any more tells nothing of how fast a name is answered
                self._admission.correct((name, -cost) for name, cost in work.charges)
            else:
                self._admission.answered(work.charges)

    def _note(self, inputs: Sequence[Input], pending: Pending, seconds: float) -> None:
        """Count what came of a request."""
        self._requests.record(seconds)
        for given, result in zip(inputs, pending.results, strict=True):
            if isinstance(result, OneTrunkError):
                self.observer.failed(result)
                continue
            self._of.record(given.adapters, seconds, self.trunk.registry.served)
            for name in given.adapters:
                self.observer.answered(name, seconds)

    def _served(self, name: str, post: ServedName) -> Served:
        tier = self.trunk.registry.tier(post.loaded)
        return Served.of(name, post, tier, self._of.of(name))
