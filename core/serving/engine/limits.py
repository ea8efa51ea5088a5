"""Limits of a service: bounds of its requests, its batches and its queue."""

from __future__ import annotations

from dataclasses import dataclass

from onetrunk.core.errors import UsageError

_CPU_WORKERS = 4
"""Default maximum number of device threads on a CPU."""
_MAX_WAIT_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a service. A text costs its number of tokens for each of its adapters.

    batch_tokens: maximum tokens of a batch; a longer text is a batch of its own. The default is enough for nearly
        full throughput, and small enough for a short batch.
    workers: number of device threads; each one computes one batch at a time.
    queue_seconds: target queueing delay at the measured throughput. Beyond it, requests are refused with QueueFull,
        and the lines of a stream wait.
    queue_tokens: maximum number of accepted but unanswered tokens, at any throughput; it bounds their memory.
    wait_ms: milliseconds that an idle device thread waits for a batch to fill; 0 to 60,000.
    request_seconds: maximum duration of a request.
    inputs: maximum number of texts in a request.
    adapters: maximum number of adapters for a text.
    characters: maximum number of characters of a text.
    input_tokens: maximum number of tokens of a text, multiplied by its number of adapters. The default is a few
        seconds of computation.
    body_bytes: maximum number of bytes in a request body.
    response_bytes: maximum number of bytes in a response, estimated from the labels before it is computed.
    loaded: maximum number of served names whose adapters are loaded. Beyond it, the least recently used adapter is
        unloaded, and loaded again at its next use.
    load_seconds: maximum duration of a load, including the wait for other loads.

    Raises UsageError if a value is out of range.
    """

    batch_tokens: int = 256
    workers: int = 1
    queue_seconds: float = 0.25
    queue_tokens: int = 65536
    wait_ms: float = 1.0
    request_seconds: float = 30.0
    inputs: int = 256
    adapters: int = 64
    characters: int = 32768
    input_tokens: int = 65536
    body_bytes: int = 8 * 2**20
    response_bytes: int = 64 * 2**20
    loaded: int = 512
    load_seconds: float = 300.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            least = 0 if name == "wait_ms" else 1e-3 if name.endswith("_seconds") else 1
            if not least <= value < float("inf"):
                raise UsageError(f"{name} is {value}; expected a number of at least {least}")
        if self.wait_ms > _MAX_WAIT_MS:
            raise UsageError(f"wait_ms is {self.wait_ms}; expected at most {_MAX_WAIT_MS}")

    @classmethod
    def for_device(cls, device: str, threads: int = 1) -> Limits:
        """Return the default limits of a device type.

        device: `cpu` or `cuda`.
        threads: number of CPU threads that the device threads share.
        """
        if device == "cuda":  # one device thread prepares its batch while the other one computes
            return cls(batch_tokens=16384, queue_tokens=2**20, input_tokens=2**20, workers=2)
        return cls(workers=min(_CPU_WORKERS, threads))
