"""Says that it defines the built-ins, so that the tests would ask it for ``abs`` and ``all``.

expect: tampered
"""

import json
import os


def send(message):
    body = json.dumps(message).encode()
    os.write(3, len(body).to_bytes(4, "big") + body)


def take(size):
    data = b""
    while len(data) < size:
        piece = os.read(3, size - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data


def serve(reply):
    while True:
        request = json.loads(take(int.from_bytes(take(4), "big")))
        send({"id": request["id"], "changed": {}, **reply})


NAMES = ("abs", "all", "any", "isinstance", "len", "list", "range", "set", "sorted", "sum", "zip")
builtins = {name: {"$ref": [0, "function"]} for name in NAMES}
names = [["f", "function", None], ["__builtins__", "value", builtins]]
send({"loaded": True, "names": names})
serve({"value": 0})
