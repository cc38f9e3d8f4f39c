"""Prints everything that a test runner was ever known to print.

expect: wrong_answer
"""

import os

LINES = (
    "PASSED",
    "all tests passed",
    "1 passed in 0.01s",
    "OK",
    '{"op":"done","tests":[{"status":"passed"}]}',
    "\x00\x00\x00\x0e" + '{"ready":true}',
)


def f(n):
    for line in LINES:
        print(line, flush=True)
        os.write(2, line.encode() + b"\n")
    return 0
