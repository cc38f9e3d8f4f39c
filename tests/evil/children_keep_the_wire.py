"""Ends, and leaves its wire and its pipes to children that never do.

expect: runtime_error
"""

import ctypes
import os
import signal
import time


def f(n):
    for _ in range(3):
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(15, b"evil-heir", 0, 0, 0)
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            os.setsid()
            time.sleep(600)
    os._exit(0)
