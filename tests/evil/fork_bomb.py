"""Forks without end.

expect: time_limit
"""

import os


def f(n):
    while True:
        try:
            os.fork()
        except OSError:
            continue
