"""Waits for its own end to speak.

expect: wrong_answer
"""

import atexit
import os

body = b'{"test":0,"status":"passed"}'


def speak(*_):
    for descriptor in range(3, 10):
        try:
            os.write(descriptor, len(body).to_bytes(4, "big") + body)
        except OSError:
            continue


class Last:
    __del__ = speak


last = Last()
atexit.register(speak)


def f(n):
    return 0
