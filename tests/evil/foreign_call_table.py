"""Calls the kernel by another machine's table.

expect: runtime_error
"""

import ctypes
import os

libc = ctypes.CDLL(None)


def f(n):
    if os.uname().machine == "x86_64":
        libc.syscall(0x40000000 + 39)
    os._exit(1)
