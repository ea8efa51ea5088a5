"""What this process may use of the machine: processors and memory, with the limits of its cgroups (containers).

Linux only; elsewhere there are no limits to read, and the number of processors is that of the machine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
"""The root of the file system, in which `proc` and the cgroups are read. Tests give another one."""

_UNLIMITED = 2**60
"""cgroup v1 writes a number of about 2^63 where there is no limit."""


def usable_processors(root: Path = ROOT) -> int:
    """Return how many processors the process may use: its affinity, bounded by the CPU quota of its cgroups."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(affinity, cpu_quota(root))))


def cpu_quota(root: Path = ROOT) -> float:
    """Return the CPU quota of the cgroups of the process, in processors; infinity without a quota."""
    quotas = [math.inf]
    for folder in _cgroups(root, "cpu"):
        both = _words(folder / "cpu.max")  # cgroup v2: quota and period, or `max`
        if not both:
            both = [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]
        if len(both) == 2 and both[0].isdecimal() and both[1].isdecimal() and int(both[1]):
            quotas.append(int(both[0]) / int(both[1]))
    return min(quotas)


def available_memory(root: Path = ROOT) -> int | None:
    """Return how many bytes of memory the process can still use; None if the system does not tell."""
    lines = dict(line.split(":", 1) for line in _lines(root / "proc/meminfo") if ":" in line)
    free = [int(lines["MemAvailable"].split()[0]) * 1024] if "MemAvailable" in lines else []
    for folder in _cgroups(root, "memory"):
        limit, used = (
            next((int(word) for name in names for word in _words(folder / name) if word.isdecimal()), None)
            for names in (
                ("memory.max", "memory.limit_in_bytes"),
                ("memory.current", "memory.usage_in_bytes"),
            )
        )
        if limit is None or used is None or limit >= _UNLIMITED:
            continue
        stat = dict(line.split(" ", 1) for line in _lines(folder / "memory.stat") if " " in line)
        cache = int(stat.get("total_inactive_file", stat.get("inactive_file", "0")))  # the kernel can drop it
        free.append(max(0, limit - used + cache))
    return min(free, default=None)


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the cgroups of the process that limit it through `controller`, with their parents."""
    own: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, names, path = [*line.split(":", 2), "", ""][:3]
        own |= dict.fromkeys(names.split(","), path)  # the name of cgroup v2 is empty
    for line in _lines(root / "proc/self/mounts"):
        _, mount, kind, options = [*line.split(), "", "", "", ""][:4]
        name = "" if kind == "cgroup2" else controller
        if name not in own or (kind != "cgroup2" and not (kind == "cgroup" and name in options.split(","))):
            continue
        top = root / mount.lstrip("/")
        folder = top / own[name].lstrip("/")
        while True:
            if (
                folder.is_dir()
            ):  # inside a container, the mount can be the own cgroup, and the path does not exist
                yield folder
            if folder == top or top not in folder.parents:
                break
            folder = folder.parent


def _words(path: Path) -> list[str]:
    return [word for line in _lines(path)[:1] for word in line.split()]


def _lines(path: Path) -> list[str]:
    """Return the lines of a file of the kernel; [] if there is none or it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
