"""Answers with a number too large to be one.

expect: tampered
"""

import os


def f(n):
    body = b'{"id":1,"value":1e999,"changed":{}}'
    os.write(3, len(body).to_bytes(4, "big") + body)
    return 0
