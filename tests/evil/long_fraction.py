"""Answers with a fraction whose terms have millions of digits, left for the reader to reduce.

expect: wrong_answer
"""

import json
import os
import random


def f(n):
    terms = [{"$int": hex(random.getrandbits(4_000_000))} for _ in range(2)]
    body = json.dumps({"id": 1, "changed": {}, "value": {"$fraction": terms}}).encode()
    view = memoryview(len(body).to_bytes(4, "big") + body)
    while view:
        view = view[os.write(3, view) :]
    os._exit(0)
