"""CPU thread placement: device threads share torch's CPU threads; other computations run on short-lived threads.

torch computes on a CPU with OpenMP. OpenMP keeps a team of threads for every thread that has ever computed. If the
teams together have more threads than there are processors, waiting threads sleep instead of spinning at the
several hundred barriers of a batch: with two cores, a batch then takes 1.5 times as long. A team ends with its
thread.
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
    """Divide torch's CPU threads between `workers` device threads, and shorten Python's thread switch interval.

    Changes settings of the whole process. Call it only in a process that does nothing but serve: `adapters serve`,
    or a Ray replica. `Engine` does not call it.

    The switch interval is how long Python lets one thread keep the interpreter while another one waits for it,
    5 ms by default. A batch acquires the interpreter several hundred times, and would wait that long for a busy
    event loop each time.
    """
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    sys.setswitchinterval(SWITCH_SECONDS)


def lower_priority() -> None:
    """Lower the priority of this thread below that of the event loop, so that requests are refused without delay.

    Does nothing except on Linux, the only system with a priority for each thread.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + NICE))


def run_in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` on a new thread, wait until that has ended, and return or raise what `work` does.

    The thread is a daemon: an interrupt of the caller does not wait for it.
    """
    outcome, thread = start_thread(work, *args, **kwargs)
    try:
        return outcome.result()
    finally:
        if outcome.done():
            thread.join()


def start_thread(
    work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> tuple[Future[T], threading.Thread]:
    """Start `work` on a new daemon thread; return the future of its result, and the thread."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # marks it as running, so that nobody can cancel it

    def run() -> None:
        try:
            outcome.set_result(work(*args, **kwargs))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="onetrunk-work", daemon=True)
    thread.start()
    return outcome, thread
