from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from onetrunk.core.serving.engine.stats import SlidingWindow


def test_threads_that_record_at_once_lose_nothing() -> None:
    activity = SlidingWindow()

    def record(times: int) -> None:
        for _ in range(times):
            activity.record(0.25)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(record, [5000] * 4))
    assert activity.total == 20_000
    assert activity.rate() > 0
    assert activity.p95() == 0.25
