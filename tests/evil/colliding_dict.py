"""Returns a dict whose keys all hash alike, after it took the time to make one.

expect: wrong_answer
"""


def f(n):
    return {number * ((1 << 61) - 1): number for number in range(2000)}
