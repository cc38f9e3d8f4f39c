"""Lets its children print without end while it waits.

expect: output_limit
"""

import os
import time


def f(n):
    for descriptor in (1, 2):
        if os.fork() == 0:
            while True:
                os.write(descriptor, b"x" * 65536)
    time.sleep(60)
