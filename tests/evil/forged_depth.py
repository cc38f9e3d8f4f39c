"""Answers with lists in lists, nearly as deep as a reader can go.

expect: tampered
"""

import os


def f(n):
    body = b'{"id":1,"changed":{},"value":' + b"[" * 960 + b"]" * 960 + b"}"
    os.write(3, len(body).to_bytes(4, "big") + body)
    return 0
