"""Reads an integer of a million digits, over and over.

expect: time_limit
"""

import sys

if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(0)


def f(n):
    while True:
        int("9" * 1_000_000)
