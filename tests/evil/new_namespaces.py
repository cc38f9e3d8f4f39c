"""Asks for new namespaces, one by one, by every call that makes or enters them.

expect: wrong_answer
"""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
FLAGS = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
CLONE = 56 if os.uname().machine == "x86_64" else 220


def made():
    for flag in FLAGS:
        if libc.unshare(flag) == 0:
            yield flag
        if flag == 0x80:
            continue  # part of the signal's number where clone takes it
        pid = libc.syscall(CLONE, flag | 17, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        if pid > 0:
            os.waitpid(pid, 0)
            yield flag
    for name in os.listdir("/proc/self/ns"):
        descriptor = os.open(f"/proc/self/ns/{name}", os.O_RDONLY)
        if libc.setns(descriptor, 0) == 0:
            yield name
        os.close(descriptor)
    if libc.syscall(435, (ctypes.c_uint64 * 11)(0x10000000), 88) >= 0:
        yield "clone3"


def f(n):
    return 6 if list(made()) else 0
