"""Ends itself by signal, and by a fault where signals don't reach it.

expect: runtime_error
"""

import ctypes
import os
import signal


def f(n):
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    ctypes.string_at(0)
