"""Hides lying objects inside a list of a class of its own.

expect: wrong_answer
"""


class Text(str):
    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


class Items(list):
    def __eq__(self, other):
        return True

    __hash__ = None


def f(n):
    return Items([Text("x")])
