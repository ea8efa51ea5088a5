"""CPU thread placement: device threads share torch's CPU threads; other computations run on short-lived threads.

torch computes on a CPU with OpenMP. OpenMP keeps a team of threads for every thread that has computed, until that
thread ends. If all teams together have more threads than the machine has processors, a thread that waits at a
barrier sleeps instead of spinning. A batch has several hundred barriers: with two cores, it then takes 1.5 times as
long.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

_SWITCH_SECONDS = 2e-4
_NICE = 5  # higher values mean a lower priority

P = ParamSpec("P")
T = TypeVar("T")


def share_threads(workers: int) -> None:
    """Divide torch's CPU threads between `workers` device threads, and shorten Python's thread switch interval.

    Changes settings of the whole process. Call it only in a process that does nothing but serve: `adapters serve`,
    or a Ray replica. `Engine` does not call it.

    The switch interval is the time that Python lets one thread keep the interpreter lock while another one waits
    for it, 5 ms by default. A batch acquires the lock several hundred times. With the default, it would wait 5 ms
    each time the event loop is busy.
    """
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    sys.setswitchinterval(_SWITCH_SECONDS)


def lower_priority() -> None:
    """Lower the priority of this thread, so that the event loop is not delayed. Does nothing except on Linux."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + _NICE))


def run_in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` on a new daemon thread, wait for its end, and return its result or raise its exception.

    If the caller is interrupted meanwhile, it does not wait for the thread.
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
    """Start `work` on a new daemon thread. Returns the future of its result, and the thread."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # so that it cannot be cancelled

    def run() -> None:
        try:
            outcome.set_result(work(*args, **kwargs))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="onetrunk-work", daemon=True)
    thread.start()
    return outcome, thread
