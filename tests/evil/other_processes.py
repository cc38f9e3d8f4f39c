"""Reaches for every process number: by signal, by handle, by memory, by limit.

expect: wrong_answer
"""

import ctypes
import os
import resource

libc = ctypes.CDLL(None)


def reaches(pid):
    for attempt in (
        lambda: os.kill(pid, 0),
        lambda: os.close(os.pidfd_open(pid)),
        lambda: os.sched_getaffinity(pid),
        lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE),
        lambda: os.getpgid(pid),
        lambda: os.listdir(f"/proc/{pid}/fd"),
    ):
        try:
            attempt()
            return True
        except OSError:
            continue
    return libc.ptrace(16, pid, 0, 0) == 0


def f(n):
    own = os.getpid()
    return 6 if any(reaches(pid) for pid in range(1, 3000) if pid != own) else 0
