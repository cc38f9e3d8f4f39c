"""Fills its process table with children that nobody waits for.

expect: wrong_answer
"""

import os


def f(n):
    for _ in range(500):
        try:
            if os.fork() == 0:
                os._exit(0)
        except OSError:
            break
    return 0
