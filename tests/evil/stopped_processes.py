"""Stops itself and its children, and leaves them stopped.

expect: wrong_answer
"""

import ctypes
import os
import signal
import time


def f(n):
    for _ in range(8):
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(15, b"evil-stopped", 0, 0, 0)
            os.setsid()
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(600)
    if os.getpid() == 1:  # the first process of its namespace, which can't be stopped from inside
        for number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN):
            os.kill(1, number)
    return 0
