"""Who computes on which threads of the CPU: device threads share them, and all else computes on threads that end.

OpenMP, by which torch computes on a CPU, keeps a team of threads for every thread that has ever computed. Where
the teams have more threads than there are processors, those that wait sleep instead of spinning, at each of some
hundred barriers a batch: on two cores a batch then takes half as long again. A team ends with its thread.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

SWITCH_SECONDS = 2e-4
NICE = 5

P = ParamSpec("P")
T = TypeVar("T")


def share_threads(workers: int) -> None:
    """Have each thread of this process that computes use the share of torch's threads of one of `workers`.

    For a process that does nothing but serve: `adapters serve`, a replica of Ray. An `Engine` changes no setting.

    A team of one waits for nobody: whatever else wants a processor holds up one batch, and not all of them.

    Have who holds the interpreter hand it over soon, too: a batch asks for it some hundred times, and would each
    time wait out the 5 ms that Python gives an event loop that is never idle.
    """
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    sys.setswitchinterval(SWITCH_SECONDS)


def lower_priority() -> None:
    """Let the event loop go before this thread, where both want a processor, so that requests are refused at once.

    Only Linux has a priority for each thread.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICE))


def run_in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` returns, or raise what it raises, from a thread of its own that has ended by then.

    An interrupt does not wait for it: it is a daemon.
    """
    outcome, thread = begin(work, *args, **kwargs)
    try:
        return outcome.result()
    finally:
        if outcome.done():
            thread.join()


def begin(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[Future[T], threading.Thread]:
    """Start `work` on a daemon thread of its own; return its outcome and the thread."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # from here on nobody can cancel it

    def run() -> None:
        try:
            outcome.set_result(work(*args, **kwargs))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="onetrunk-apart", daemon=True)
    thread.start()
    return outcome, thread
