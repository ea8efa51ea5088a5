"""Preemption: a thread can compute something else between two products of a long forward pass.

A forward pass over one window of 512 tokens takes 0.2 s on one core. A service answers short texts meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Current(threading.local):
    """The function that this thread calls at each point; None for none."""

    call: Callable[[], None] | None = None


_current = _Current()


@contextmanager
def preemptible(call: Callable[[], None] | None) -> Iterator[None]:
    """Call `call` at each point of the forward passes that this thread runs during the block; None: do not."""
    before, _current.call = _current.call, call
    try:
        yield
    finally:
        _current.call = before


def preemption_point() -> None:
    """Call the function of `preemptible`, if there is one: the trunk does so before each product of a layer."""
    if _current.call is not None:
        _current.call()
