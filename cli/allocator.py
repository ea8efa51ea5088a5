"""How the C library keeps memory: settings of the whole process, for a command that owns it."""

from __future__ import annotations

import ctypes
import platform

_ARENA_MAX = -8
"""`M_ARENA_MAX` of glibc's <malloc.h>."""


def share_one_heap() -> None:
    """Let all threads allocate from one heap; call it before threads start. Only glibc has more than one.

    It gives every thread a heap of its own, which keeps the most that its batches ever took, and what a thread that
    loaded something has freed is there for no other.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def give_back_freed() -> None:
    """Give the system what has been freed, after a load that took far more than it left. Only glibc keeps it."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
