"""Forks inside a call and answers twice.

expect: wrong_answer
"""

import os


def f(n):
    os.fork()
    return 0
