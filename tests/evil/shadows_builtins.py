"""Defines the names that tests lean on.

expect: wrong_answer
"""


def abs(value):
    return 0


def all(values):
    return True


def check(candidate):
    return None


def __strict_equal__(left, right):
    return True


class math:
    isclose = staticmethod(lambda *args, **kwargs: True)


def f(n):
    return 0
