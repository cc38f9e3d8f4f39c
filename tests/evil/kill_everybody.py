"""Kills every process it may.

expect: wrong_answer
"""

import os
import signal


def f(n):
    for pid in (-1, 0, os.getppid(), 2, 3):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue
    return 0
