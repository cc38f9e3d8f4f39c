"""Answers with lists in lists, deeper than any reader can go.

expect: tampered
"""

import os


def f(n):
    body = b'{"id":1,"changed":{},"value":' + b"[" * 200000 + b"]" * 200000 + b"}"
    view = memoryview(len(body).to_bytes(4, "big") + body)
    while view:
        view = view[os.write(3, view) :]
    return 0
