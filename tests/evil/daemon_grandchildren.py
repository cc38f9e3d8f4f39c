"""Leaves a daemon behind, in a session of its own.

expect: wrong_answer
"""

import ctypes
import os
import time


def f(n):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(15, b"evil-daemon", 0, 0, 0)
            time.sleep(600)
        os._exit(0)
    return 0
