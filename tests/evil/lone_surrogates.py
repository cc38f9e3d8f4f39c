"""Returns, prints and raises text that no encoding takes.

expect: wrong_answer
"""

import sys


def f(n):
    sys.stdout.buffer.write(b"\xff\xfe\xed\xa0\x80")
    if n == 5:
        raise ValueError("\ud800")
    return {"\ud83d": "\ude00\x00"}
