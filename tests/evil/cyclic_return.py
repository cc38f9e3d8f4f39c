"""Returns a list that holds itself.

expect: wrong_answer
"""


def f(n):
    made = []
    made.append(made)
    return made
