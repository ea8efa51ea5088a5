"""`Bank`: keeps the LoRA weights of loaded adapters on the device, within a budget of bytes.

There are three tiers: device, host memory and disk. Each time the adapters of a tier exceed its budget, the least
recently used one is evicted to the next tier. An adapter on the disk is read from its files at the next use. If the
device is the CPU, there is no host tier.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

import torch

from onetrunk.adapters.methods.flat_layout import flattened, pinned, size_of
from onetrunk.adapters.methods.lora import Lora

Tier = Literal["device", "host", "disk"]

_log = logging.getLogger(__name__)
_Evicted = list[tuple[Hashable, Lora]]


@dataclass(frozen=True, slots=True)
class Usage:
    """Counters since the start, and present sizes, of a bank.

    hits: requested adapters that were on the device, or that another request was loading.
    host_loads: requested adapters that were loaded from host memory.
    disk_loads: requested adapters that were loaded from the disk.
    evictions: adapters evicted from the device.
    host_evictions: adapters evicted from host memory.
    installed: present number of adapters in all tiers.
    """

    hits: int
    host_loads: int
    disk_loads: int
    evictions: int
    host_evictions: int
    installed: int
    device_adapters: int
    device_bytes: int
    host_adapters: int
    host_bytes: int


class Bank:
    """Adapters by key, on one device in one dtype. Thread-safe.

    device_bytes, host_bytes: budgets of the tiers; None for no bound. Adapters that are being loaded, and evicted
        adapters that a caller of `get` still uses, take memory beyond the budgets.
    """

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        device_bytes: int | None = None,
        host_bytes: int | None = None,
    ) -> None:
        self._to = (device, dtype)
        self._slots: dict[Hashable, _Slot] = {}
        self._device = _Memory(device_bytes)
        self._host = _Memory(0 if device.type == "cpu" else host_bytes)
        self._hits = self._host_loads = self._disk_loads = 0
        self._lock = threading.Lock()

    def install(self, key: Hashable, lora: Lora, reload: Callable[[], Lora]) -> None:
        """Put `lora` on the device as `key`, in place of an adapter that has this key.

        reload: reads and verifies the adapter again after an eviction. The thread that needs the adapter calls it.
        """
        loaded = flattened(lora, *self._to)
        with self._lock:
            self._drop(key)
            self._slots[key] = _Slot(reload)
            evicted = self._put(key, loaded)
        self._copy_to_host(evicted)

    def remove(self, key: Hashable) -> None:
        """Remove `key`. Raises KeyError if it is not installed."""
        with self._lock:
            del self._slots[key]
            self._drop(key)

    def get(self, keys: Iterable[Hashable]) -> dict[Hashable, Lora]:
        """Return the adapters of `keys`, on the device. Evicted adapters are loaded again.

        Raises KeyError for a key that is not installed, and the errors of `reload`.
        """
        return {key: self._one(key) for key in dict.fromkeys(keys)}

    def tier(self, key: Hashable) -> Tier:
        """Return the tier of `key`; `disk` if it is not installed. This does not count as a use."""
        with self._lock:
            return "device" if key in self._device.loras else "host" if key in self._host.loras else "disk"

    @property
    def usage(self) -> Usage:
        """The counters and sizes now."""
        with self._lock:
            return Usage(
                hits=self._hits,
                host_loads=self._host_loads,
                disk_loads=self._disk_loads,
                evictions=self._device.evictions,
                host_evictions=self._host.evictions,
                installed=len(self._slots),
                device_adapters=len(self._device.loras),
                device_bytes=self._device.bytes,
                host_adapters=len(self._host.loras),
                host_bytes=self._host.bytes,
            )

    def _one(self, key: Hashable) -> Lora:
        coming: Future[Lora] = Future()
        with self._lock:
            slot = self._slots[key]
            if key in self._device.loras:
                self._hits += 1
                self._device.loras.move_to_end(key)
                return self._device.loras[key]
            if (awaited := slot.coming) is not None:
                self._hits += 1
            else:
                slot.coming = coming
                kept = self._host.take(key)
        return awaited.result() if awaited is not None else self._load(key, slot, kept, coming)

    def _load(self, key: Hashable, slot: _Slot, kept: Lora | None, coming: Future[Lora]) -> Lora:
        """Load an adapter, from the disk if `kept` is None, for all threads that wait for `coming`."""
        try:
            loaded = flattened(slot.reload() if kept is None else kept, *self._to)
        except BaseException as error:
            with self._lock:
                slot.coming = None
            coming.set_exception(error)
            raise
        evicted: _Evicted = []
        with self._lock:
            slot.coming = None
            self._host_loads += kept is not None
            self._disk_loads += kept is None
            if self._slots.get(key) is slot:  # else it was removed or replaced meanwhile
                evicted = self._put(key, loaded)
        coming.set_result(loaded)
        self._copy_to_host(evicted)
        return loaded

    def _put(self, key: Hashable, loaded: Lora) -> _Evicted:
        """Put an adapter on the device and move evicted ones to the host tier. The caller holds the lock.

        Returns the evicted adapters. Their tensors are still on the device: the caller passes them to
        `_copy_to_host` after it has released the lock.
        """
        evicted = self._device.put(key, loaded)
        if self._host.limit == 0:
            return []
        for old, lora in evicted:
            self._host.put(old, lora)
        return evicted

    def _copy_to_host(self, evicted: _Evicted) -> None:
        """Replace the device tensors of adapters in the host tier by copies in host memory.

        If a copy fails, the next use reads the adapter from the disk.
        """
        for key, lora in evicted:
            copy = None
            try:
                copy = pinned(lora)
            except RuntimeError as error:  # host memory may be full
                _log.warning("an evicted adapter could not be copied to host memory: %s", error)
            with self._lock:
                if self._host.loras.get(key) is not lora:  # it was used, removed or evicted meanwhile
                    continue
                if copy is None:
                    self._host.take(key)
                else:
                    self._host.loras[key] = copy

    def _drop(self, key: Hashable) -> None:
        self._device.take(key)
        self._host.take(key)


@dataclass(eq=False, slots=True)
class _Slot:
    """An installed adapter: how to read it again, and its load in progress, if any."""

    reload: Callable[[], Lora]
    coming: Future[Lora] | None = None


class _Memory:
    """The adapters of one tier, the least recently used first. limit: bytes, None for no bound."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.loras: OrderedDict[Hashable, Lora] = OrderedDict()
        self.bytes = 0
        self.evictions = 0

    def put(self, key: Hashable, lora: Lora) -> _Evicted:
        """Add an adapter and return those that were evicted: the new one if it is larger than the budget."""
        evicted: _Evicted = []
        if self.limit is not None and size_of(lora) > self.limit:
            evicted.append((key, lora))
        else:
            self.loras[key] = lora
            self.bytes += size_of(lora)
        while self.limit is not None and self.bytes > self.limit:
            oldest, leaving = self.loras.popitem(last=False)
            self.bytes -= size_of(leaving)
            evicted.append((oldest, leaving))
        self.evictions += len(evicted)
        return evicted

    def take(self, key: Hashable) -> Lora | None:
        """Remove and return the adapter of `key`, None if it is not here."""
        if (lora := self.loras.pop(key, None)) is not None:
            self.bytes -= size_of(lora)
        return lora
