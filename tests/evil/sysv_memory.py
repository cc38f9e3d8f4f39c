"""Holds memory in segments that it isn't attached to.

expect: runtime_error
"""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmdt.argtypes = [ctypes.c_void_p]


def f(n):
    for _ in range(10):
        segment = libc.shmget(0, 40 << 20, 0o1600)
        if segment < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        address = libc.shmat(segment, None, 0)
        ctypes.memset(address, 1, 40 << 20)
        libc.shmdt(address)
    return 0
