"""Returns a number that raises when it is compared.

expect: wrong_answer
"""

import decimal


def f(n):
    return decimal.Decimal("sNaN")
