"""Returns an integer of a hundred million bits.

expect: wrong_answer
"""


def f(n):
    return 1 << 100_000_000
