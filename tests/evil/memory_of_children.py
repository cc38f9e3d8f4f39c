"""Spreads what it holds over children.

expect: memory_limit
"""

import os
import time


def f(n):
    for _ in range(8):
        if os.fork() == 0:
            held = bytearray(100 << 20)
            for page in range(0, len(held), 4096):
                held[page] = 1
            time.sleep(60)
            os._exit(0)
    time.sleep(60)
