"""Raises an error that ends the process when its message is asked for.

expect: runtime_error
"""

import os


class Last(Exception):
    def __str__(self):
        os._exit(0)


def f(n):
    raise Last
