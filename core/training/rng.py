"""Random numbers of one run, whatever else draws from torch's global generators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Randomness:
    """A state of torch's global generators that belongs to one run.

    Layers of torch draw from the global generators and take no other. Several runs in one process each put their
    own state there while they draw; for everyone else the generators stay as they were.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._devices = [device] if device.type == "cuda" else []
        with self._forked():
            torch.manual_seed(seed)
            self._states = self._read()

    @contextmanager
    def own(self) -> Iterator[None]:
        """Let torch draw from this run's state, on this thread and any other, until the block ends."""
        with self._forked():
            cpu, *others = self._states
            torch.set_rng_state(cpu)
            for device, state in zip(self._devices, others, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
            self._states = self._read()

    @contextmanager
    def _forked(self) -> Iterator[None]:
        with torch.random.fork_rng(devices=self._devices):
            yield

    def _read(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices)]
