"""Uses no CPU time at all, for ever.

expect: time_limit
"""

import time


def f(n):
    time.sleep(1000)
