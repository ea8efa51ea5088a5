"""Random numbers of one run, and how code that takes no generator draws without disturbing others.

Our own code draws from the run's `torch.Generator`: orders of data, first LoRA weights, dropout masks. Code that
takes no generator draws from torch's global ones, which all threads of a process share:

- a head, when it is built and when it trains (`nn.Linear`, `nn.Dropout`);
- models of transformers, when they are built.

It runs in `global_generators`, which puts the generators back at its end and lets one thread in at a time:
trainings on several threads do not disturb each other. Other code that draws from the global generators on another
thread at that moment draws from the run's state, and changes what the run draws next. Serving and predicting draw
nothing.
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
    """Leave torch's global generators of the CPU and of `device` as they were, whatever is drawn in the block.

    seed: what that of the CPU begins with; None to go on from where it is. Waits while another thread is in such a
    block.
    """
    with _ENTERED, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield


class Randomness:
    """The random numbers of one run on `device`; they follow from `seed` alone. Belongs to one thread."""

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
        """Let torch's global generators go on from this run's state, and take over what they have come to."""
        with global_generators(device=self._device):
            torch.set_rng_state(self.host.get_state())
            if self._device.type == "cuda":
                torch.cuda.set_rng_state(self.device.get_state(), self._device)
            yield
            self.host.set_state(torch.get_rng_state())
            if self._device.type == "cuda":
                self.device.set_state(torch.cuda.get_rng_state(self._device))
