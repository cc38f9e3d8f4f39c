"""Returns, and ends with status 0 from a thread while nobody is asking.

expect: wrong_answer
"""

import os
import threading
import time


def leave():
    time.sleep(0.05)
    os._exit(0)


def f(n):
    threading.Thread(target=leave, daemon=True).start()
    return 0
