"""Limits of a service: bounds of its requests, its batches and its queue."""

from __future__ import annotations

from dataclasses import dataclass

from onetrunk.core.errors import UsageError

BATCH_TOKENS = {"cpu": 256, "cuda": 16384}
"""Default tokens of a batch, by device: enough for nearly full throughput, few enough for a short batch."""
QUEUE_TOKENS = {"cpu": 65536, "cuda": 1048576}
"""Default upper bound of accepted but unanswered tokens, by device; it bounds their memory."""
CPU_WORKERS, GPU_WORKERS = 4, 2
"""Default device threads. A CPU has no more than torch's threads; on a GPU one prepares while one computes."""
INPUT_TOKENS = {"cpu": 65536, "cuda": 1048576}
"""Default tokens of one text, multiplied by its adapters: a few seconds of computation."""
MAX_WAIT_MS = 60_000
"""Upper bound of `Limits.wait_ms`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a service. A text costs its number of tokens for each of its adapters.

    batch_tokens: maximum tokens of a batch; a longer text is a batch of its own.
    workers: device threads, each of which computes a batch of its own.
    queue_seconds: target queueing delay at the measured throughput. Beyond it, requests are refused with QueueFull;
        streams wait.
    queue_tokens: maximum of accepted but unanswered tokens, at any throughput.
    wait_ms: milliseconds that an idle device thread waits for a batch to fill.
    request_seconds: maximum duration of a request.
    inputs: maximum texts of a request.
    adapters: maximum adapters of a text.
    characters: maximum characters of a text.
    input_tokens: maximum tokens of a text, multiplied by its adapters.
    body_bytes: maximum bytes of a request body.

    Raises UsageError if a value is not positive; `wait_ms` may be 0, and is at most `MAX_WAIT_MS`.
    """

    batch_tokens: int = BATCH_TOKENS["cpu"]
    workers: int = 1
    queue_seconds: float = 0.25
    queue_tokens: int = QUEUE_TOKENS["cpu"]
    wait_ms: float = 1.0
    request_seconds: float = 30.0
    inputs: int = 256
    adapters: int = 64
    characters: int = 32768
    input_tokens: int = INPUT_TOKENS["cpu"]
    body_bytes: int = 8 * 2**20

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            least = 0 if name == "wait_ms" else 1e-3 if name.endswith("_seconds") else 1
            if not least <= value < float("inf"):
                raise UsageError(f"{name} is {value}; expected a number of at least {least}")
        if self.wait_ms > MAX_WAIT_MS:
            raise UsageError(f"wait_ms is {self.wait_ms}; expected at most {MAX_WAIT_MS}")

    @classmethod
    def for_device(cls, device: str, threads: int = 1, **options: float | None) -> Limits:
        """Return the default limits of a device type, with `options` in their place where they are not None.

        device: `cpu` or `cuda`.
        threads: CPU threads that the device threads share.
        """
        defaults = {
            "batch_tokens": BATCH_TOKENS,
            "queue_tokens": QUEUE_TOKENS,
            "input_tokens": INPUT_TOKENS,
        }
        values: dict[str, float] = {name: by.get(device, by["cpu"]) for name, by in defaults.items()}
        values["workers"] = GPU_WORKERS if device == "cuda" else min(CPU_WORKERS, threads)
        values |= {name: value for name, value in options.items() if value is not None}
        return cls(**values)  # type: ignore[arg-type]
