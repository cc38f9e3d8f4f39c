"""Returns a named tuple and a dict of classes of its own, with equalities of their own.

expect: wrong_answer
"""

import collections


class Pair(collections.namedtuple("Pair", "left right")):
    def __eq__(self, other):
        return True

    __hash__ = tuple.__hash__


class Table(dict):
    def __missing__(self, key):
        return self

    def __eq__(self, other):
        return True

    __hash__ = None


def f(n):
    return Table() if n == 5 else Pair(Table(), 6)
