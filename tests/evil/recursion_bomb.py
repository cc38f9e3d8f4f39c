"""Recurses in Python until the memory ends.

expect: memory_limit
"""

import sys

sys.setrecursionlimit(1 << 30)


def f(n):
    held = [n] * 10000
    return f(n + 1) + held[0]
