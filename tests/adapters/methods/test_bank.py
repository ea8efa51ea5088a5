from __future__ import annotations

import gc
import random
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onetrunk.adapters.methods.bank import Bank
from onetrunk.adapters.methods.flat_layout import flattened, size_of
from onetrunk.adapters.methods.lora import Lora, LowRank

CPU = torch.device("cpu")
RANK_BYTES = 2 * 64 * 4
"""Bytes of an adapter a unit of rank: A and B have 64 numbers each."""

FOREVER = 30.0
"""Seconds after which a thread that waits has failed."""

Reload = Callable[[], Lora]


def lora(value: float, rank: int = 1) -> Lora:
    """One update of `rank * RANK_BYTES` bytes, whose every number tells the adapter."""
    return Lora({(0, "output"): LowRank(torch.full((rank, 64), value), torch.full((64, rank), value), 1.0)})


def value_of(found: Lora) -> float:
    values = {float(number) for factor in found.parameters for number in factor.flatten()}
    assert len(values) == 1
    return values.pop()


def never() -> Lora:
    raise AssertionError("the adapter was on the device")


def bank_of(*values: float, room: int | None = None) -> Bank:
    """A bank with adapters of rank 1 under their values, and room for `room` of them."""
    bank = Bank(CPU, torch.float32, None if room is None else room * RANK_BYTES)
    for value in values:
        bank.install(value, lora(value), lambda value=value: lora(value))  # type: ignore[misc]
    return bank


def resident(bank: Bank, key: float) -> bool:
    """Whether `get` finds the adapter on the device; it comes there if it was not."""
    before = bank.usage.hits
    bank.get([key])
    return bank.usage.hits > before


# What is held


def test_what_was_installed_is_what_is_got_in_one_dtype_and_of_one_tensor() -> None:
    bank = Bank(CPU, torch.bfloat16)
    bank.install("a", Lora({(0, "query"): LowRank(torch.ones(2, 4), torch.ones(4, 2), 0.5)}), never)
    (found,) = bank.get(["a"]).values()
    assert {factor.dtype for factor in found.parameters} == {torch.bfloat16}
    assert torch.equal(found.updates[0, "query"].b, torch.full((4, 2), 0.5, dtype=torch.bfloat16))
    assert found.flat is not None
    assert bank.usage.device_bytes == found.flat.nbytes


def test_the_same_key_twice_is_one_adapter() -> None:
    found = bank_of(1.0, 2.0).get([1.0, 2.0, 1.0])
    assert {key: value_of(own) for key, own in found.items()} == {1.0: 1.0, 2.0: 2.0}


@pytest.mark.parametrize("room", [None, 1])
def test_a_key_that_was_never_installed_or_is_removed_is_an_error(room: int | None) -> None:
    bank = bank_of(1.0, 2.0, room=room)
    bank.remove(1.0)
    for key in (1.0, 3.0):
        with pytest.raises(KeyError, match=str(key)):
            bank.get([key])
        with pytest.raises(KeyError, match=str(key)):
            bank.remove(key)


def test_an_install_under_a_key_in_use_replaces_and_moves_no_other_adapter() -> None:
    bank = bank_of(1.0, 2.0, 3.0)
    before = bank.get([1.0, 2.0, 3.0])
    bank.install(2.0, lora(5.0), never)
    after = bank.get([1.0, 2.0, 3.0])
    assert [value_of(own) for own in after.values()] == [1.0, 5.0, 3.0]
    assert after[1.0] is before[1.0]
    assert after[3.0] is before[3.0]
    assert value_of(before[2.0]) == 2.0  # who holds the old one goes on with it
    assert bank.usage.installed == 3
    assert bank.usage.device_bytes == 3 * RANK_BYTES


def test_the_least_recently_used_leaves_first() -> None:
    bank = bank_of(1.0, 2.0, 3.0, room=3)
    bank.get([1.0])
    bank.install(4.0, lora(4.0), never)
    assert [resident(bank, key) for key in (1.0, 3.0, 4.0)] == [True, True, True]
    assert not resident(bank, 2.0)


def test_an_adapter_larger_than_the_budget_is_served_and_evicts_nobody() -> None:
    bank = bank_of(1.0, 2.0, room=2)
    bank.install("large", lora(7.0, rank=3), lambda: lora(7.0, rank=3))
    assert value_of(bank.get(["large"])["large"]) == 7.0
    assert bank.usage.device_adapters == 2
    assert [resident(bank, key) for key in (1.0, 2.0)] == [True, True]


def test_more_adapters_than_there_is_room_for_are_got_at_once() -> None:
    bank = bank_of(*map(float, range(5)), room=2)
    found = bank.get(map(float, range(5)))
    assert [value_of(own) for own in found.values()] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert bank.usage.device_bytes == 2 * RANK_BYTES


def test_memory_is_free_once_an_adapter_is_evicted_and_nobody_uses_it() -> None:
    bank = bank_of(1.0, room=1)
    held = bank.get([1.0])[1.0]
    assert held.flat is not None
    memory = weakref.ref(held.flat)
    bank.install(2.0, lora(2.0), never)
    gc.collect()
    assert memory() is not None
    assert value_of(held) == 1.0
    del held
    gc.collect()
    assert memory() is None


@pytest.mark.parametrize("how", ["remove", "replace"])
def test_memory_is_free_once_an_adapter_is_removed_or_replaced(how: str) -> None:
    bank = bank_of(1.0)
    memory = weakref.ref(bank.get([1.0])[1.0].flat)
    if how == "remove":
        bank.remove(1.0)
    else:
        bank.install(1.0, lora(2.0), never)
    gc.collect()
    assert memory() is None


# Against a dumb model


@dataclass
class Model:
    """The same in lists: (key, rank) of what is on the device, the oldest first."""

    room: int
    device: list[tuple[int, int]] = field(default_factory=list)
    hits: int = 0
    loads: int = 0
    evictions: int = 0

    def install(self, key: int, rank: int) -> None:
        self.remove(key)
        if rank > self.room:
            self.evictions += 1
            return
        self.device.append((key, rank))
        while sum(own for _, own in self.device) > self.room:
            self.device.pop(0)
            self.evictions += 1

    def get(self, key: int, rank: int) -> None:
        hit = (key, rank) in self.device
        self.hits += hit
        self.loads += not hit
        self.install(key, rank)

    def remove(self, key: int) -> None:
        self.device = [each for each in self.device if each[0] != key]


keys = st.integers(0, 5)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("install"), keys, st.integers(1, 4)),
        st.tuples(st.just("get"), keys, st.just(0)),
        st.tuples(st.just("remove"), keys, st.just(0)),
    ),
    max_size=40,
)


@given(operations, st.integers(0, 9))
def test_any_sequence_of_calls_is_counted_and_evicted_as_in_a_model(
    calls: list[tuple[str, int, int]], room: int
) -> None:
    bank, model, ranks = Bank(CPU, torch.float32, room * RANK_BYTES), Model(room), dict[int, int]()
    for call, key, rank in calls:
        if call == "install":
            ranks[key] = rank
            bank.install(key, lora(key, rank), lambda key=key, rank=rank: lora(key, rank))  # type: ignore[misc]
            model.install(key, rank)
        elif key in ranks and call == "get":
            assert value_of(bank.get([key])[key]) == key
            model.get(key, ranks[key])
        elif key in ranks:
            del ranks[key]
            bank.remove(key)
            model.remove(key)
        usage = bank.usage
        assert (usage.hits, usage.disk_loads, usage.evictions) == (model.hits, model.loads, model.evictions)
        assert usage.device_bytes == RANK_BYTES * sum(rank for _, rank in model.device)
        assert (usage.device_adapters, usage.installed) == (len(model.device), len(ranks))
        assert (usage.host_loads, usage.host_evictions, usage.host_adapters, usage.host_bytes) == (0, 0, 0, 0)


# Threads


class Gate:
    """A reload that waits until it is let through, and counts its calls."""

    def __init__(self, give: Reload) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.calls = 0
        self._give = give

    def __call__(self) -> Lora:
        self.calls += 1
        self.entered.set()
        assert self.open.wait(FOREVER)
        return self._give()


def evicted_behind(gate: Gate) -> Bank:
    """A bank with room for two, in which `slow` is evicted and comes back through `gate`."""
    bank = Bank(CPU, torch.float32, 2 * RANK_BYTES)
    bank.install("slow", lora(1.0), gate)
    for key in (2.0, 3.0):
        bank.install(key, lora(key), never)
    return bank


def wait_for(condition: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(int(FOREVER / 0.005)):
        if condition():
            return
        tick.wait(0.005)
    raise AssertionError("it did not happen")


def test_threads_that_want_the_same_evicted_adapter_load_it_once() -> None:
    gate = Gate(lambda: lora(1.0))
    bank = evicted_behind(gate)
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(bank.get, ["slow"]) for _ in range(4)]
        wait_for(lambda: bank.usage.hits == 3)  # the others wait for the one who loads
        gate.open.set()
        same = {id(each.result(FOREVER)["slow"]) for each in found}
    assert gate.calls == 1
    assert len(same) == 1
    assert (bank.usage.hits, bank.usage.disk_loads) == (3, 1)


def test_a_load_from_the_disk_blocks_nobody_who_wants_something_else() -> None:
    gate = Gate(lambda: lora(1.0))
    bank = evicted_behind(gate)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(bank.get, ["slow"])
        assert gate.entered.wait(FOREVER)
        assert value_of(bank.get([2.0])[2.0]) == 2.0
        bank.install(4.0, lora(4.0), never)
        bank.remove(4.0)
        gate.open.set()
        assert value_of(found.result(FOREVER)["slow"]) == 1.0


def test_a_load_that_fails_tells_all_who_wait_and_is_tried_again() -> None:
    def broken() -> Lora:
        if gate.calls == 1:
            raise OSError("the disk is gone")
        return lora(1.0)

    gate = Gate(broken)
    bank = evicted_behind(gate)
    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(bank.get, ["slow"]) for _ in range(3)]
        wait_for(lambda: bank.usage.hits == 2)
        gate.open.set()
        for each in found:
            with pytest.raises(OSError, match="the disk is gone"):
                each.result(FOREVER)
    assert value_of(bank.get(["slow"])["slow"]) == 1.0
    assert (gate.calls, bank.usage.disk_loads) == (2, 1)


@pytest.mark.parametrize("how", ["remove", "replace"])
def test_what_is_removed_or_replaced_while_it_loads_is_given_but_not_kept(how: str) -> None:
    gate = Gate(lambda: lora(1.0))
    bank = evicted_behind(gate)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(bank.get, ["slow"])
        assert gate.entered.wait(FOREVER)
        bank.remove("slow")
        if how == "replace":
            bank.install("slow", lora(9.0), never)
        gate.open.set()
        assert value_of(found.result(FOREVER)["slow"]) == 1.0
    if how == "replace":
        assert value_of(bank.get(["slow"])["slow"]) == 9.0
    else:
        with pytest.raises(KeyError, match="slow"):
            bank.get(["slow"])
    assert bank.usage.device_bytes == 2 * RANK_BYTES


def test_threads_get_what_they_ask_for_while_adapters_are_replaced_and_evicted() -> None:
    bank, rounds, threads = bank_of(*map(float, range(8)), room=3), 200, 4

    def work(seed: int) -> int:
        rng = random.Random(seed)
        for _ in range(rounds):
            wanted = rng.sample(range(8), 2)
            for key, own in bank.get(map(float, wanted)).items():
                assert value_of(own) == key
            if rng.random() < 0.2:
                key = float(rng.randrange(8))
                bank.install(key, lora(key), lambda key=key: lora(key))  # type: ignore[misc]
            assert bank.usage.device_bytes <= 3 * RANK_BYTES
        return 2 * rounds

    with ThreadPoolExecutor(threads) as pool:
        asked = sum(pool.map(work, range(threads)))
    usage = bank.usage
    assert usage.hits + usage.disk_loads == asked
    assert usage.device_adapters == 3
    assert usage.installed == 8


# A GPU, whose evicted adapters stay in host memory


@pytest.mark.gpu
def test_on_a_gpu_the_evicted_go_to_host_memory_then_to_the_disk_and_come_back_from_both() -> None:
    bank = Bank(torch.device("cuda", 0), torch.float32, 2 * RANK_BYTES, RANK_BYTES)
    for key in map(float, range(4)):
        bank.install(key, lora(key), lambda key=key: lora(key))  # type: ignore[misc]
    usage = bank.usage  # 2 and 3 on the device, 1 in host memory, 0 on the disk
    assert (usage.device_adapters, usage.host_adapters, usage.host_bytes) == (2, 1, RANK_BYTES)
    assert (usage.evictions, usage.host_evictions) == (2, 1)
    for key in (1.0, 0.0, 0.0):
        found = bank.get([key])[key]
        assert value_of(found) == key
        assert {factor.device.type for factor in found.parameters} == {"cuda"}
    assert (bank.usage.hits, bank.usage.host_loads, bank.usage.disk_loads) == (1, 1, 1)


@pytest.mark.gpu
def test_nobody_waits_while_an_evicted_adapter_is_copied_to_host_memory() -> None:
    cuda = torch.device("cuda", 0)
    large = [
        flattened(
            Lora({(0, "query"): LowRank(torch.zeros(1, 2**28), torch.zeros(8, 1), 1.0)}), cuda, torch.float32
        )
        for _ in range(2)
    ]  # 1 GiB each
    bank = Bank(cuda, torch.float32, size_of(large[0]), None)
    bank.install("first", large[0], never)
    began, waited = time.perf_counter(), 0.0
    with ThreadPoolExecutor(1) as pool:
        evicting = pool.submit(bank.install, "second", large[1], never)
        while not evicting.done():
            asked = time.perf_counter()
            bank.tier("first")
            waited = max(waited, time.perf_counter() - asked)
    assert waited < (time.perf_counter() - began) / 4
    assert (bank.tier("first"), bank.tier("second")) == ("host", "device")


def test_what_is_laid_out_for_the_bank_already_is_taken_without_a_copy() -> None:
    bank, own = Bank(CPU, torch.float32), flattened(lora(1.0), CPU, torch.float32)
    bank.install("a", own, never)
    assert bank.get(["a"])["a"] is own
    assert bank.usage.device_bytes == size_of(own) == RANK_BYTES
