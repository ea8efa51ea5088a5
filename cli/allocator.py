"""Memory settings of the C library, for the whole process of a command."""

from __future__ import annotations

import ctypes
import platform

_ARENA_MAX = -8
"""The parameter `M_ARENA_MAX` of `mallopt`, from glibc's <malloc.h>."""


def share_one_heap() -> None:
    """Let all threads share one glibc heap. Call it before threads start.

    By default, glibc gives each thread its own heap, and memory that one thread has freed is not reused by another.
    Each heap then keeps the memory of the largest batch of its thread. Does nothing without glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def give_back_freed() -> None:
    """Return freed memory to the system. Does nothing without glibc."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
