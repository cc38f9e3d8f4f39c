"""Returns lists in lists, a hundred thousand deep.

expect: wrong_answer
"""


def f(n):
    made = []
    for _ in range(100000):
        made = [made]
    return made
