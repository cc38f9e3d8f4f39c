"""Returns more than may cross.

expect: wrong_answer
"""


def f(n):
    return ["x" * 100] * 900000
