"""Raises a group of errors, which can't be made from a message alone.

expect: runtime_error
"""


def f(n):
    raise ExceptionGroup("many", [AssertionError("one")])
