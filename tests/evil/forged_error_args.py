"""Answers with an error whose argument is too long to be printed.

expect: runtime_error
"""

import json
import os


def f(n):
    args = {"$tuple": [{"$int": "0x" + "f" * 6000}]}
    error = {"name": "ValueError", "base": "ValueError", "message": "x", "line": 1, "args": args}
    body = json.dumps({"id": 1, "error": error}).encode()
    os.write(3, len(body).to_bytes(4, "big") + body)
    return 0
