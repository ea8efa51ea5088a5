"""What a service takes on at once: the bounds that keep its memory and its answers' times within limits."""

from __future__ import annotations

from dataclasses import dataclass

from onetrunk.core.errors import UsageError

BATCH_TOKENS = {"cpu": 256, "cuda": 16384}
"""Tokens of a batch by default: large enough for nearly full speed, small enough that nobody waits long for one."""
QUEUE_TOKENS = {"cpu": 65536, "cuda": 1048576}
"""Tokens that wait at most by default, however fast the device is: what they take in memory is bounded."""
CPU_WORKERS, GPU_WORKERS = 4, 2
"""Device threads by default: on a CPU no more than torch's; on a GPU one prepares while the other computes."""
INPUT_TOKENS = {"cpu": 65536, "cuda": 1048576}
"""Tokens of an input by default, over all its adapters: some seconds of a device that nothing interrupts."""
MOST_WAIT_MS = 60_000
"""The longest wait for a batch to fill: more is no use to anyone, and a clock can hold only so much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of a service. A text with an adapter costs the text's tokens.

    batch_tokens: of a batch; a longer text is a batch of its own.
    workers: batches that are computed at the same time, each on a device thread.
    queue_seconds: that what waits takes, by the speed that is measured; what comes on top is refused, or waits to
    be let in where it is a stream. queue_tokens: that wait, whatever the speed.
    wait_ms: how long the first of a batch that is not full waits for more, while the device has nothing to do.
    request_seconds: how long a request may take in all.
    inputs: texts of a request. adapters: of one text. characters: of one text. body_bytes: of a request.
    input_tokens: of a text, times its adapters: what one batch may have to do at once.
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
        """Raise UsageError for a bound that nothing could keep."""
        for name in self.__slots__:
            value = getattr(self, name)
            least = 0 if name == "wait_ms" else 1e-3 if name.endswith("_seconds") else 1
            if not least <= value < float("inf"):
                raise UsageError(f"{name} is {value}; expected a number from {least} on")
        if self.wait_ms > MOST_WAIT_MS:
            raise UsageError(f"wait_ms is {self.wait_ms}; expected at most {MOST_WAIT_MS}")

    @classmethod
    def for_device(cls, device: str, threads: int = 1, **chosen: float | None) -> Limits:
        """Return the defaults for a type of device (cpu, cuda), with what was `chosen` and is not None.

        threads: of the CPU, that device threads may share between them.
        """
        defaults = {
            "batch_tokens": BATCH_TOKENS,
            "queue_tokens": QUEUE_TOKENS,
            "input_tokens": INPUT_TOKENS,
        }
        values: dict[str, float] = {name: by.get(device, by["cpu"]) for name, by in defaults.items()}
        values["workers"] = GPU_WORKERS if device == "cuda" else min(CPU_WORKERS, threads)
        values |= {name: value for name, value in chosen.items() if value is not None}
        return cls(**values)  # type: ignore[arg-type]
