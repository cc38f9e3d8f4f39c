"""Ignores every signal it can and never returns.

expect: time_limit
"""

import signal

for number in range(1, 64):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        continue


def f(n):
    while True:
        pass
