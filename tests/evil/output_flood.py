"""Prints without end.

expect: output_limit
"""


def f(n):
    while True:
        print("x" * 65536)
