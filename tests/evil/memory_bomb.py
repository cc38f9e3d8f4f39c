"""Holds more and more.

expect: memory_limit
"""


def f(n):
    held = []
    while True:
        held.append(bytearray(1 << 20))
