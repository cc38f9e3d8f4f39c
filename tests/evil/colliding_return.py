"""Returns a set whose members all hash alike.

expect: wrong_answer
"""


def f(n):
    return {number * ((1 << 61) - 1) for number in range(2000)}
