"""Fills its share of processes with sleepers in sessions of their own, then returns.

expect: wrong_answer
"""

import ctypes
import os
import time


def f(n):
    for _ in range(200):
        try:
            if os.fork() == 0:
                ctypes.CDLL(None).prctl(15, b"evil-sleeper", 0, 0, 0)
                os.setsid()
                os.closerange(0, 256)
                time.sleep(600)
                os._exit(0)
        except OSError:
            break
    return 0
