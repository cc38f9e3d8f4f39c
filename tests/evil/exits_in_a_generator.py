"""Ends quietly while what it returned is drained.

expect: runtime_error
"""

import sys


def f(n):
    yield 6
    sys.exit(0)
