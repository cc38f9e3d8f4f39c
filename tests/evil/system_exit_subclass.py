"""Raises a SystemExit of its own inside the test.

expect: runtime_error
"""


class Quiet(SystemExit):
    code = 0


def f(n):
    raise Quiet(0)
