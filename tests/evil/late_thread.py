"""Keeps a thread that writes to the wire between calls.

expect: tampered
"""

import os
import threading
import time


def shout():
    while True:
        os.write(3, b"\x00\x00\x00\x02{}")
        time.sleep(0.001)


threading.Thread(target=shout, daemon=True).start()


def f(n):
    time.sleep(0.3)
    return 0
