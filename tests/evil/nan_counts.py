"""Returns a counter that raises when it is shown.

expect: wrong_answer
"""

import collections
import decimal


def f(n):
    return collections.Counter({"a": decimal.Decimal("NaN"), "b": 1})
