"""Computations on short-lived threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from onetrunk.core.serving.engine.cpu_threads import run_in_thread

TEAMS = """
import os, time, torch
from onetrunk.core.serving.engine.cpu_threads import run_in_thread

def threads():
    return len(os.listdir("/proc/self/task"))

def compute():
    torch.randn(600, 600) @ torch.randn(600, 600)
    return threads()

before = threads()
during = run_in_thread(compute)
until = time.monotonic() + 5
while threads() > before and time.monotonic() < until:  # the system ends a thread a little after Python does
    time.sleep(0.01)
after = threads()
compute()
print(during - before, after - before, threads() - before)
"""


def test_run_in_thread_returns_or_raises_what_its_work_does() -> None:
    assert run_in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        run_in_thread(divmod, 1, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_the_openmp_threads_of_the_work_end_with_it() -> None:
    line = [sys.executable, "-c", TEAMS]
    done = subprocess.run(
        line, env=os.environ | {"OMP_NUM_THREADS": "2"}, capture_output=True, text=True, check=True
    )
    during, after, on_main_thread = map(int, done.stdout.split())
    assert (during, after, on_main_thread) == (2, 0, 1)
