"""Answers with lists in lists, as deep as the first reader takes, which the second reads deeper.

expect: tampered
"""

import os


def f(n):
    body = b'{"id":1,"changed":{},"value":' + b"[" * 439 + b"]" * 439 + b"}"
    os.write(3, len(body).to_bytes(4, "big") + body)
    return 0
