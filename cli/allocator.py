"""Memory settings of the C library, for the whole process of a command."""

from __future__ import annotations

import ctypes
import platform

_ARENA_MAX = -8
"""`M_ARENA_MAX` of glibc's <malloc.h>."""


def share_one_heap() -> None:
    """Let all threads share one glibc heap. Call it before threads start.

    By default glibc gives each thread its own heap, which keeps the peak of that thread's batches: memory that one
    thread has freed is not reused by another. Other C libraries have one heap.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def give_back_freed() -> None:
    """Return freed memory to the system, after a load with a high peak. Does nothing without glibc."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
