"""Returns a number of a class of its own, with an equality of its own.

expect: wrong_answer
"""


class Lie(int):
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    __hash__ = int.__hash__


def f(n):
    return Lie(0)
