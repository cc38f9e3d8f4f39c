"""Raises an error with a message of megabytes, from a class with a name of megabytes.

expect: runtime_error
"""


def f(n):
    raise type("E" * 4_000_000, (Exception,), {})("x" * 20_000_000)
