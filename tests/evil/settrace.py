"""Traces every call and changes the locals it finds.

expect: wrong_answer
"""

import sys


def trace(frame, event, argument):
    frame.f_locals["expected"] = 0
    return trace


sys.settrace(trace)
sys.setprofile(trace)


def f(n):
    return 0
