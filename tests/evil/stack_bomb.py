"""Recurses in C until the stack ends.

expect: runtime_error
"""

import ctypes
import sys

sys.setrecursionlimit(1 << 30)
CALL = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)


@CALL
def down(number):
    return down(number + 1)


def f(n):
    return down(n)
