"""Becomes a program that succeeds.

expect: runtime_error
"""

import os


def f(n):
    os.execv("/bin/true", ["true"])
