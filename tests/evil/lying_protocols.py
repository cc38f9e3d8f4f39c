"""Returns an object whose every operator says what a test would like to hear.

expect: wrong_answer
"""


def agree(*_):
    return True


class Agreeable:
    __bool__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __eq__ = agree
    __hash__ = None

    def __sub__(self, other):
        return 0

    __rsub__ = __add__ = __abs__ = __float__ = __int__ = __index__ = __round__ = __sub__

    def __ne__(self, other):
        return False

    def __iter__(self):
        return iter((self,))

    def __getattr__(self, name):
        return self


def f(n):
    return Agreeable()
