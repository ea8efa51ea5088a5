"""The processors and the memory that the cgroups of a process leave it, read from the files of the kernel."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from onetrunk.core.backbones.machine import available_memory, cpu_quota, usable_processors

V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
V1 = (
    "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
    "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
)


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def system(root: Path, mounts: str, own: str, files: dict[str, str]) -> Path:
    base = {"proc/self/mounts": mounts, "proc/self/cgroup": own, "proc/meminfo": "MemAvailable: 4096 kB\n"}
    return write(root, **base, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()})


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "400000 100000\n"}, 4.0),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "400000 100000\n"}, 2.0),
        ("0::/gone\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("0::/\n", {}, math.inf),
        ("0::/\n", {"cpu.max": "\n"}, math.inf),
    ],
)
def test_the_quota_of_cgroup_v2_is_the_smallest_of_the_group_and_its_parents(
    tmp_path: Path, own: str, files: dict[str, str], quota: float
) -> None:
    assert cpu_quota(system(tmp_path, V2, own, files)) == quota


@pytest.mark.parametrize(("microseconds", "quota"), [("-1", math.inf), ("50000", 0.5), ("800000", 8.0)])
def test_the_quota_of_cgroup_v1(tmp_path: Path, microseconds: str, quota: float) -> None:
    folder = "cpu,cpuacct/docker/x"
    files = {f"{folder}/cpu.cfs_quota_us": microseconds, f"{folder}/cpu.cfs_period_us": "100000"}
    own = "4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n"
    assert cpu_quota(system(tmp_path, V1, own, files)) == quota


def test_at_least_one_processor_can_be_used(tmp_path: Path) -> None:
    assert usable_processors(system(tmp_path, V2, "0::/\n", {"cpu.max": "10000 100000"})) == 1


def test_the_memory_is_what_the_machine_and_the_group_leave(tmp_path: Path) -> None:
    files = {
        "memory.max": "1000000",
        "memory.current": "600000",
        "memory.stat": "anon 1\ninactive_file 50000\n",
    }
    assert available_memory(system(tmp_path, V2, "0::/\n", files)) == 450_000
    files = {"memory.max": "max", "memory.current": "600000"}
    assert available_memory(system(tmp_path, V2, "0::/\n", files)) == 4096 * 1024


def test_the_memory_of_cgroup_v1(tmp_path: Path) -> None:
    files = {"memory/memory.limit_in_bytes": "2000000", "memory/memory.usage_in_bytes": "500000"}
    assert available_memory(system(tmp_path, V1, "3:memory:/\n", files)) == 1_500_000
    files["memory/memory.limit_in_bytes"] = "9223372036854771712"
    assert available_memory(system(tmp_path, V1, "3:memory:/\n", files)) == 4096 * 1024


def test_a_system_without_these_files_has_no_limits(tmp_path: Path) -> None:
    assert (cpu_quota(tmp_path), available_memory(tmp_path)) == (math.inf, None)
