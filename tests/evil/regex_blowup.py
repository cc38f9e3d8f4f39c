"""Matches a pattern that never gets done, in one call of C.

expect: time_limit
"""

import re


def f(n):
    return re.match(r"(a|a)*$", "a" * 60 + "b")
