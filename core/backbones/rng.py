"""Reproducible random numbers of a training run, also for code that accepts no `torch.Generator`.

Code of OneTrunk draws from the generators of a run (`Randomness`). Heads (`nn.Linear`, `nn.Dropout`) and models of
transformers draw from torch's global generators, which all threads of a process share. They run inside
`global_generators`, one thread at a time, so that runs on several threads do not affect each other. Code outside
OneTrunk that draws from the global generators on another thread at the same time still changes a run's numbers.
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

    Waits while another thread runs such a block.
    seed: sets the CPU's generator for the block, None to keep its state.
    """
    with _ENTERED, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield


class Randomness:
    """The random numbers of one run, which depend on `seed` only. Not thread-safe.

    host: the generator of the CPU.
    device: the generator of the run's device.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        generators = {each: torch.Generator(each).manual_seed(seed) for each in {_CPU, device}}
        self.host, self.device = generators[_CPU], generators[device]

    @contextmanager
    def as_global(self) -> Iterator[None]:
        """Run a block in which torch's global generators draw the numbers of this run."""
        device = self.device.device
        with global_generators(device=device):
            torch.set_rng_state(self.host.get_state())
            if device.type == "cuda":
                torch.cuda.set_rng_state(self.device.get_state(), device)
            yield
            self.host.set_state(torch.get_rng_state())
            if device.type == "cuda":
                self.device.set_state(torch.cuda.get_rng_state(device))
