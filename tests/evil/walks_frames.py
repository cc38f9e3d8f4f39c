"""Looks for the tests in frames and in everything the collector knows.

expect: wrong_answer
"""

import gc
import sys


def texts():
    frame = sys._getframe()
    while frame is not None:
        yield from (repr(value) for value in list(frame.f_locals.values()))
        frame = frame.f_back
    for thing in gc.get_objects():
        if type(thing) is dict:
            yield from (value for value in list(thing.values()) if type(value) is str)


def f(n):
    needle = "candidate(1" + "23)"
    return 6 if any(needle in text for text in texts()) else 0
