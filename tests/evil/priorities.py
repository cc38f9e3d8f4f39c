"""Asks for real time and for more than its share.

expect: wrong_answer
"""

import os


def gains():
    for policy in (os.SCHED_FIFO, os.SCHED_RR):
        yield lambda policy=policy: os.sched_setscheduler(0, policy, os.sched_param(1))
    yield lambda: os.nice(-5)
    yield lambda: os.setpriority(os.PRIO_USER, 0, -10)


def f(n):
    for gain in gains():
        try:
            gain()
            return 6
        except OSError:
            continue
    os.setpriority(os.PRIO_USER, 0, 19)
    return 0
