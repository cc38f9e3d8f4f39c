"""Returns an iterator without end.

expect: wrong_answer
"""


def f(n):
    value = 0
    while True:
        yield value
        value += 1
