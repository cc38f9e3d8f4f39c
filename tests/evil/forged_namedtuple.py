"""Answers with a tuple whose field names are one name, spelt twice.

expect: tampered
"""

import json
import os


def f(n):
    value = {"$namedtuple": ["Pair", ["\u00b5", "\u03bc"], [1, 2]]}
    body = json.dumps({"id": 1, "changed": {}, "value": value}).encode()
    view = memoryview(len(body).to_bytes(4, "big") + body)
    while view:
        view = view[os.write(3, view) :]
    os._exit(0)
