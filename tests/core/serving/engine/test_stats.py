"""The sliding window."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from onetrunk.core.serving.engine.stats import SlidingWindow


def test_concurrent_threads_lose_no_event() -> None:
    window = SlidingWindow()

    def record(times: int) -> None:
        for _ in range(times):
            window.record(0.25)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(record, [5000] * 4))
    assert window.total == 20_000
    assert window.rate() > 0
    assert window.p95() == 0.25
