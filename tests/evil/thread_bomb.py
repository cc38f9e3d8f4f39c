"""Starts threads without end.

expect: runtime_error
"""

import threading
import time


def f(n):
    while True:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
