from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from onetrunk.core.serving.engine.scheduler import Scheduler


def works(*costs: int, queue_name: str = "one") -> list[Any]:
    return [
        SimpleNamespace(queue_name=queue_name, costs=[cost], queued_at=0.0, ticket=None) for cost in costs
    ]


class Device:
    """Takes batches, and is done with them when it is told to be. taken: the costs of each batch."""

    def __init__(self) -> None:
        self.taken: list[list[int]] = []
        self.done = threading.Semaphore(0)

    def __call__(self, batch: list[Any]) -> None:
        self.taken.append([work.costs[0] for work in batch])
        assert self.done.acquire(timeout=20)
        if batch[0].costs == [13]:
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
    """Have one thread of a batcher at work, on something of a calm flow."""
    with scheduler(device, workers, tokens) as own:
        own.put(works(10, queue_name="calm"))
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


def test_what_waits_is_shared_between_the_workers_that_are_idle() -> None:
    device = Device()
    with scheduler(device, 2) as own:
        own.put(works(*[100] * 4))
        assert device.has_taken(2)
        assert device.taken == [[100, 100]] * 2
        own.put(works(*[100] * 4))
        device.done.release()
        assert device.has_taken(3)
        assert device.taken[2] == [100] * 4  # nobody else is idle


def test_little_is_not_shared() -> None:
    device = Device()
    with scheduler(device, 2) as own:
        own.put(works(30, 30))
        assert device.has_taken(1)
        assert device.taken == [[30, 30]]


def test_one_worker_gathers_a_batch_while_the_other_leaves_it_alone() -> None:
    device = Device()
    with scheduler(device, 2, tokens=60, wait=5.0) as own:
        for _ in range(5):
            own.put(works(10))
            time.sleep(0.01)
        assert device.taken == []
        own.put(works(10))
        assert device.has_taken(1)
        assert device.taken == [[10] * 6]


def test_a_batch_that_wants_to_end_the_process_costs_no_worker() -> None:
    device = Device()
    with scheduler(device, 2, tokens=13) as own:
        own.put(works(*[13] * 6))
        device.done.release(6)
        assert device.has_taken(6)
        assert own.alive
    assert own.waiting == (0, 0)


def test_closing_answers_what_waits_and_ends_the_threads() -> None:
    device = Device()
    with scheduler(device, 3, tokens=10) as own:
        own.put(works(*[10] * 20))
    assert len(device.taken) == 20
    assert not own.alive


def test_a_flow_that_is_mostly_refused_waits_until_nothing_else_is_under_way() -> None:
    device = Device()
    with busy(device, 2) as own:
        own.refused(["flood"] * 40)
        own.put(works(*[16] * 80, queue_name="flood"))
        own.put(works(70, queue_name="calm"))
        assert device.has_taken(2)
        assert sorted(device.taken[1]) == [16, 70]  # one of the flood rides along
        device.done.release()
        time.sleep(0.05)
        assert len(device.taken) == 2
        device.done.release()
        assert device.has_taken(3)
        assert device.taken[2] == [16] * 15  # and some go by themselves: a quarter of a batch


def test_who_is_refused_among_others_is_no_flood() -> None:
    device = Device()
    with busy(device, 2, 200) as own:
        own.refused(["busy", "calm"] * 40)
        own.put(works(*[50] * 4, queue_name="busy"))
        assert device.has_taken(2)


def test_a_guest_is_none_any_more_when_the_flood_has_ended() -> None:
    device = Device()
    with busy(device, 2) as own:
        own.refused(["flood"] * 40)
        own.put(works(16, queue_name="flood"))
        assert device.has_taken(2)  # nothing tells of the end, and the first batch is not done


def test_a_flood_has_half_of_many_threads() -> None:
    device = Device()
    with busy(device, 4, 64) as own:
        own.refused(["flood"] * 40)
        own.put(works(*[16] * 40, queue_name="flood"))
        assert device.has_taken(2)
        own.put(works(20, queue_name="calm"))
        assert device.has_taken(3)
        assert 20 in device.taken[2]


def test_one_large_request_that_is_refused_makes_no_flood() -> None:
    device = Device()
    with busy(device, 2) as own:
        own.refused({"busy"})
        own.put(works(*[16] * 40, queue_name="busy"))
        assert device.has_taken(2)
