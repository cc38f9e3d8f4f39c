"""Returns an object whose class lies about itself, under the name of a built-in one.

expect: wrong_answer
"""


class Meta(type):
    def __eq__(self, other):
        return True

    def __instancecheck__(self, instance):
        return True

    __hash__ = type.__hash__


def make(number):
    body = {
        "__class__": property(lambda self: int),
        "__eq__": lambda self, other: True,
        "__hash__": lambda self: number,
        "__iter__": lambda self: iter((6,)),
        "__module__": "builtins",
    }
    return Meta("int", (), body)()


def f(n):
    return make(0)
