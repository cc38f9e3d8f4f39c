"""Answers calls that nobody has made, in advance.

expect: tampered
"""

import os


def f(n):
    body = b'{"id":999,"value":6,"changed":{}}'
    os.write(3, len(body).to_bytes(4, "big") + body)
    return 0
