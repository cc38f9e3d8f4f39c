"""Answers with a text that has no end, in which every quote might be the one that ends it.

expect: tampered
"""

import os


def f(n):
    body = b"[" * 401 + b'"' + b'\\"' * 400_000
    os.write(3, len(body).to_bytes(4, "big") + body)
    return 0
