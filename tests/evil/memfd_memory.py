"""Holds memory in files that have no name and are in no folder.

expect: runtime_error
"""

import os

held = []


def f(n):
    for number in range(40):
        held.append(os.memfd_create(f"evil-{number}"))
        os.write(held[-1], bytes(10 << 20))
    return 0
