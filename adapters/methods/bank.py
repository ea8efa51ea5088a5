"""The bank: the adapters that are resident on the device, within a budget of bytes.

An adapter is in one tier at a time. Where the device's budget is exceeded, the least recently used go to host
memory, and from there to the disk, which holds all of them anyway: what brings one back reads its artifact again.
On a CPU device and host are the same memory, and what is evicted goes to the disk at once.
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
"""Where an adapter is."""

_log = logging.getLogger(__name__)
_Evicted = list[tuple[Hashable, Lora]]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a bank has done and what it holds.

    hits: adapters asked for that were on the device, or were being brought there for somebody else already.
    host_loads, disk_loads: adapters asked for that came back from host memory, from the disk.
    evictions: adapters that left the device for want of room; host_evictions: that left host memory for it.
    device_adapters, device_bytes, host_adapters, host_bytes: what is there now. installed: in any tier or on disk.
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
    """Adapters by key, on one device in one dtype. Safe to share between threads.

    device_bytes, host_bytes: how much each tier may hold; None for no bound. Bytes that a caller of `get` still
    uses are not counted once the bank has let go of them, nor are those on their way from the disk.
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
        """Put `lora` on the device as `key`, in place of what had that key; no other adapter is copied.

        reload: reads and verifies the adapter again, on the thread that needs it; the bank holds no lock then.
        """
        resident = flattened(lora, *self._to)
        with self._lock:
            self._drop(key)
            self._slots[key] = _Slot(reload)
            evicted = self._put(key, resident)
        self._copy_to_host(evicted)

    def remove(self, key: Hashable) -> None:
        """Forget `key`. Raises KeyError if it is not installed."""
        with self._lock:
            del self._slots[key]
            self._drop(key)

    def get(self, keys: Iterable[Hashable]) -> dict[Hashable, Lora]:
        """Return the adapters of `keys`, on the device, bringing back those that were evicted.

        They stay alive while the caller holds them, whatever is evicted meanwhile; all are served even where the
        budget is smaller than their sum. Raises KeyError for a key that is not installed, and what `reload` raises.
        """
        return {key: self._one(key) for key in dict.fromkeys(keys)}

    def tier(self, key: Hashable) -> Tier:
        """Return where `key` is; asking does not count as use. What is not installed is on the disk at best."""
        with self._lock:
            return "device" if key in self._device.loras else "host" if key in self._host.loras else "disk"

    @property
    def usage(self) -> Usage:
        """The counters, all of one moment."""
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
            if (resident := self._device.touch(key)) is not None:
                self._hits += 1
                return resident
            if (awaited := slot.coming) is not None:
                self._hits += 1
            else:
                slot.coming = coming
                kept = self._host.take(key)
        return awaited.result() if awaited is not None else self._bring(key, slot, kept, coming)

    def _bring(self, key: Hashable, slot: _Slot, kept: Lora | None, coming: Future[Lora]) -> Lora:
        """Bring an adapter to the device from host memory (`kept`) or the disk, for all who wait for it."""
        try:
            resident = flattened(slot.reload() if kept is None else kept, *self._to)
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
                evicted = self._put(key, resident)
        coming.set_result(resident)
        self._copy_to_host(evicted)
        return resident

    def _put(self, key: Hashable, resident: Lora) -> _Evicted:
        """Put an adapter on the device; return those that had to leave for host memory. The caller holds the lock.

        They count as being in host memory from now on. Until `_copy_to_host` is done, for which the caller must not
        hold the lock, it has their device tensors.
        """
        evicted = self._device.put(key, resident)
        if self._host.limit == 0:
            return []
        for old, lora in evicted:
            self._host.put(old, lora)
        return evicted

    def _copy_to_host(self, evicted: _Evicted) -> None:
        """Replace device tensors in host memory by copies; those that were taken or evicted meanwhile are left out.

        Where the copy of one fails, the next use reads it from the disk.
        """
        for key, lora in evicted:
            copy = None
            try:
                copy = pinned(lora)
            except RuntimeError as error:  # host memory may be full; whoever evicted it goes on
                _log.warning("an evicted adapter could not be copied to host memory: %s", error)
            with self._lock:
                self._host.replace(key, lora, copy)

    def _drop(self, key: Hashable) -> None:
        self._device.take(key)
        self._host.take(key)


class _Slot:
    """How an installed adapter comes back, and the load under way, if there is one."""

    __slots__ = ("coming", "reload")

    def __init__(self, reload: Callable[[], Lora]) -> None:
        self.reload = reload
        self.coming: Future[Lora] | None = None


class _Memory:
    """Adapters in one memory, the least recently used first. limit: bytes, None for no bound."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.loras: OrderedDict[Hashable, Lora] = OrderedDict()
        self.bytes = 0
        self.evictions = 0

    def touch(self, key: Hashable) -> Lora | None:
        """Return what `key` has here, which is now the most recently used."""
        if key in self.loras:
            self.loras.move_to_end(key)
        return self.loras.get(key)

    def put(self, key: Hashable, lora: Lora) -> _Evicted:
        """Add an adapter that is not here; return what had to leave: it alone where it is too large by itself."""
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

    def replace(self, key: Hashable, old: Lora, new: Lora | None) -> None:
        """Put `new`, of the same size, in the place of `old`, if that is still here; drop it for None."""
        if self.loras.get(key) is not old:
            return
        if new is None:
            self.take(key)
        else:
            self.loras[key] = new

    def take(self, key: Hashable) -> Lora | None:
        """Return what `key` has here, and keep it no longer."""
        if (lora := self.loras.pop(key, None)) is not None:
            self.bytes -= size_of(lora)
        return lora
