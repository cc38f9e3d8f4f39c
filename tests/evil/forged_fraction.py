"""Answers with a fraction of a few letters that fills the memory of whoever reads it.

expect: tampered
"""

import json
import os


def f(n):
    value = {"$fraction": ["1e2000000", None]}
    body = json.dumps({"id": 1, "changed": {}, "value": value}).encode()
    view = memoryview(len(body).to_bytes(4, "big") + body)
    while view:
        view = view[os.write(3, view) :]
    os._exit(0)
