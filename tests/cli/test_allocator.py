from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes, sys, threading
from onetrunk.cli.allocator import give_back_freed, share_one_heap

if sys.argv[1] == "shared":
    share_one_heap()
kept, all_started = [], threading.Barrier(4)

def allocate():
    all_started.wait()
    kept.extend(bytes(1000) for _ in range(1000))

threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
give_back_freed()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print(open(sys.argv[2]).read().count("<heap nr="))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has several heaps")
@pytest.mark.parametrize(("mode", "several"), [("shared", False), ("default", True)])
def test_threads_share_one_heap_where_the_command_says_so(tmp_path: object, mode: str, several: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, mode, f"{tmp_path}/heaps.xml"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (int(done.stdout) > 1) == several
