"""Writes noise over the wire while it is asked.

expect: tampered
"""

import os


def f(n):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"\xff" * 4096)
        except OSError:
            continue
    return 0
