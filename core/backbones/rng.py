"""Reproducible random numbers of a training run, also for code that accepts no `torch.Generator`.

OneTrunk's own code uses the run's `torch.Generator`: data order, initial LoRA weights, dropout masks. Other code
uses torch's global generators, which all threads of a process share:

- a head, when it is built and when it trains (`nn.Linear`, `nn.Dropout`);
- models of transformers, when they are built.

Such code runs inside `global_generators`, which admits one thread at a time and restores the generators afterwards:
runs on several threads do not affect each other. This does not protect from code outside OneTrunk that uses the
global generators on another thread at the same time: it draws from the run's state and changes its next
draws. Inference draws no random numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_ENTERED = threading.RLock()
_CPU = torch.device("cpu")


@contextmanager
def global_generators(seed: int | None = None, device: torch.device = _CPU) -> Iterator[None]:
    """Run a block, then restore torch's global generators of the CPU and of `device`.

    seed: seed of the CPU's generator in the block, None to keep its state.
    Waits while another thread is in such a block.
    """
    with _ENTERED, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield


class Randomness:
    """The random numbers of one run on `device`, which depend on `seed` only. Not thread-safe."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self._generators = {each: torch.Generator(each).manual_seed(seed) for each in {_CPU, device}}

    @property
    def host(self) -> torch.Generator:
        """The generator of the CPU."""
        return self._generators[_CPU]

    @property
    def device(self) -> torch.Generator:
        """The generator of the run's device."""
        return self._generators[self._device]

    @contextmanager
    def as_global(self) -> Iterator[None]:
        """Run a block with this run's state in torch's global generators, then save the advanced state."""
        with global_generators(device=self._device):
            torch.set_rng_state(self.host.get_state())
            if self._device.type == "cuda":
                torch.cuda.set_rng_state(self.device.get_state(), self._device)
            yield
            self.host.set_state(torch.get_rng_state())
            if self._device.type == "cuda":
                self.device.set_state(torch.cuda.get_rng_state(self._device))
