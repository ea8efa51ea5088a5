"""Device threads, batches and the demotion of a flooding name."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from onetrunk.core.serving.engine.requests import Flow
from onetrunk.core.serving.engine.scheduler import Scheduler


class Work:
    """A work item that costs `cost` tokens."""

    def __init__(self, cost: int, name: str) -> None:
        self.cost, self.flow, self.queued_at = cost, Flow("", name), 0.0


def works(*costs: int, name: str = "one") -> list[Any]:
    return [Work(cost, name) for cost in costs]


class Device:
    """Computes each batch until `done` is released. taken: the costs of each batch."""

    def __init__(self) -> None:
        self.taken: list[list[int]] = []
        self.done = threading.Semaphore(0)

    def __call__(self, batch: list[Any]) -> None:
        self.taken.append([work.cost for work in batch])
        assert self.done.acquire(timeout=20)
        if batch[0].cost == 13:
            raise SystemExit(1)

    def has_taken(self, batches: int) -> bool:
        end = time.monotonic() + 20
        while len(self.taken) < batches and time.monotonic() < end:
            time.sleep(0.002)
        return len(self.taken) == batches


@contextmanager
def scheduler(device: Device, workers: int, tokens: int = 1000, wait: float = 0.0) -> Iterator[Scheduler]:
    with closing(Scheduler(device, tokens, wait, workers)) as own:
        yield own
        device.done.release(1000)


@contextmanager
def busy(device: Device, workers: int, tokens: int = 1000) -> Iterator[Scheduler]:
    """Yield a scheduler, one of whose threads computes an item of the name `calm`."""
    with scheduler(device, workers, tokens) as own:
        own.put(works(10, name="calm"))
        assert device.has_taken(1)
        yield own


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_as_many_batches_are_under_way_as_there_are_workers(workers: int) -> None:
    device = Device()
    with scheduler(device, workers, tokens=100) as own:
        own.put(works(*[100] * 5))
        assert device.has_taken(workers)
        time.sleep(0.05)
        assert device.taken == [[100]] * workers
        device.done.release()
        assert device.has_taken(workers + 1)


def test_queued_items_are_split_between_idle_workers() -> None:
    device = Device()
    with scheduler(device, 2) as own:
        own.put(works(*[100] * 4))
        assert device.has_taken(2)
        assert device.taken == [[100, 100]] * 2
        own.put(works(*[100] * 4))
        device.done.release()
        assert device.has_taken(3)
        assert device.taken[2] == [100] * 4  # no other worker is idle


def test_a_few_tokens_are_not_split() -> None:
    device = Device()
    with scheduler(device, 2) as own:
        own.put(works(30, 30))
        assert device.has_taken(1)
        assert device.taken == [[30, 30]]


def test_only_one_worker_waits_for_a_batch_to_fill() -> None:
    device = Device()
    with scheduler(device, 2, tokens=60, wait=5.0) as own:
        for _ in range(5):
            own.put(works(10))
            time.sleep(0.01)
        assert device.taken == []
        own.put(works(10))
        assert device.has_taken(1)
        assert device.taken == [[10] * 6]


def test_a_batch_that_raises_system_exit_ends_no_worker() -> None:
    device = Device()
    with scheduler(device, 2, tokens=13) as own:
        own.put(works(*[13] * 6))
        device.done.release(6)
        assert device.has_taken(6)
        assert own.alive
    assert own.waiting == (0, 0)


def test_closing_computes_the_queued_items_and_ends_the_threads() -> None:
    device = Device()
    with scheduler(device, 3, tokens=10) as own:
        own.put(works(*[10] * 20))
    assert len(device.taken) == 20
    assert not own.alive


def test_a_flooding_name_waits_until_half_of_the_workers_are_idle() -> None:
    device = Device()
    with busy(device, 2) as own:
        own.refused([Flow("", "flood")] * 40)
        own.put(works(*[16] * 80, name="flood"))
        own.put(works(70, name="calm"))
        assert device.has_taken(2)
        assert sorted(device.taken[1]) == [16, 70]  # one item of the flood is added
        device.done.release()
        time.sleep(0.05)
        assert len(device.taken) == 2
        device.done.release()
        assert device.has_taken(3)
        assert device.taken[2] == [16] * 15  # a batch of its own


def test_a_name_that_is_refused_among_others_does_not_count_as_flooding() -> None:
    device = Device()
    with busy(device, 2, 200) as own:
        own.refused([Flow("", "busy"), Flow("", "calm")] * 40)
        own.put(works(*[50] * 4, name="busy"))
        assert device.has_taken(2)


def test_a_demotion_ends_with_the_flood() -> None:
    device = Device()
    with busy(device, 2) as own:
        own.refused([Flow("", "flood")] * 40)
        own.put(works(16, name="flood"))
        assert device.has_taken(2)  # although no event marks the end, and the first batch still runs


def test_a_flooding_name_gets_half_of_the_workers() -> None:
    device = Device()
    with busy(device, 4, 64) as own:
        own.refused([Flow("", "flood")] * 40)
        own.put(works(*[16] * 40, name="flood"))
        assert device.has_taken(2)
        own.put(works(20, name="calm"))
        assert device.has_taken(3)
        assert 20 in device.taken[2]


def test_one_refused_request_does_not_count_as_a_flood() -> None:
    device = Device()
    with busy(device, 2) as own:
        own.refused({Flow("", "busy")})
        own.put(works(*[16] * 40, name="busy"))
        assert device.has_taken(2)
