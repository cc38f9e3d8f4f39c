"""Answers with a class for every value, each made anew by the reader.

expect: wrong_answer
"""

import json
import os


def f(n):
    value = [{"$namedtuple": [f"T{number}", [], []]} for number in range(200000)]
    body = json.dumps({"id": 1, "changed": {}, "value": value}).encode()
    view = memoryview(len(body).to_bytes(4, "big") + body)
    while view:
        view = view[os.write(3, view) :]
    os._exit(0)
