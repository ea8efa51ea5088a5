"""Faults to order: the n-th request from now goes wrong in the way asked for."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Kind = Literal["500", "429", "drop", "reset", "truncate", "flip", "slow"]
_BODIES = r"^(GET|PUT) (/storage/|/[^/]+/[^/]+/resolve/)"


class Asked(Protocol):
    """What a fault is chosen by; str() of it is `GET /api/models/ada/ner?blobs=true`."""

    method: str
    path: str
    token: bool


Match = str | Callable[[Asked], bool] | None

Answer = tuple[int, bytes, dict[str, str]]
"""Status, body and headers."""


@dataclass
class Fault:
    """One order. kind: None calls `action` and then serves the request as usual."""

    n: int
    kind: Kind | None
    match: Match
    times: int
    seconds: float
    action: Callable[[], object] | None = None
    answer: Answer | None = None

    def strikes(self, request: Asked) -> bool:
        """Count the request if it matches; whether its turn has come."""
        if isinstance(self.match, str):
            matches = re.search(self.match, str(request)) is not None
        else:
            matches = self.match is None or self.match(request)
        self.n -= matches
        return matches and self.n <= 0 and self.n > -self.times


class Faults:
    """The orders of a test. Requests are counted as they arrive, whichever process sends them.

    Clients load several files at once: to strike one of them, match its name rather than count.

    500       an answer "internal error"; the request is not carried out
    429       "too many requests" with Retry-After; not carried out (the client waits a second more than told)
    drop      the connection is reset before anything is done or said
    reset     the request is carried out, half of the answer sent, the connection reset
    truncate  the same, but the connection ends in good order: a body shorter than its Content-Length
    flip      one byte in the middle of a file is another: as the client gets it or, of an upload, as the Hub does
    slow      the answer comes late
    """

    def __init__(self) -> None:
        self._orders: list[Fault] = []
        self._lock = threading.Lock()

    def at(
        self, n: int, kind: Kind, match: Match = None, *, times: int = 1, seconds: float | None = None
    ) -> None:
        """The n-th request from now on that matches fails, and the next `times` - 1 of these as well.

        match: a regex searched in `METHOD /path?query` (unquoted), or a function of the request. A flip without one
            counts transfers of files only. The bytes of LFS files are at /storage/, those of others at /resolve/.
        seconds: how late for "slow" (1), what Retry-After says for "429" (0).
        """
        if kind not in get_args(Kind):
            raise ValueError(f"no fault {kind!r}; known: {', '.join(get_args(Kind))}")
        if match is None and kind == "flip":
            match = _BODIES
        wait = seconds if seconds is not None else float(kind == "slow")
        self._add(Fault(n, kind, match, times, wait))

    def before(self, n: int, action: Callable[[], object], match: Match = None) -> None:
        """Before the n-th request from now on that matches is served, call this: somebody else comes first."""
        self._add(Fault(n, None, match, 1, 0.0, action))

    def answer(self, match: Match, status: int, body: bytes = b"", *, times: int = 1, **headers: str) -> None:
        """Answer the next `times` requests that match like this, whatever they ask; nothing is carried out.

        headers: underscores in their names stand for hyphens.
        """
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        self._add(Fault(1, None, match, times, 0.0, answer=(status, body, named)))

    def clear(self) -> None:
        """Forget all orders."""
        with self._lock:
            self._orders.clear()

    @property
    def left(self) -> int:
        """How many orders have not struck, or not for the last time."""
        with self._lock:
            return len(self._orders)

    def strike(self, request: Asked) -> Fault | None:
        """Count the request for all orders; the first whose turn has come."""
        with self._lock:
            due = [order for order in self._orders if order.strikes(request)]
            self._orders = [order for order in self._orders if order.n > 1 - order.times]
        return due[0] if due else None

    def _add(self, fault: Fault) -> None:
        if fault.n < 1 or fault.times < 1:
            raise ValueError(f"requests are counted from 1, not {fault.n} ({fault.times} times)")
        with self._lock:
            self._orders.append(fault)
