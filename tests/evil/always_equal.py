"""Returns an object that says it equals everything.

expect: wrong_answer
"""


class Everything:
    def __eq__(self, other):
        return True

    __hash__ = None


def f(n):
    return Everything()
