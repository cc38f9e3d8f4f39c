"""Says that it defines things that are no names.

expect: tampered
"""

import json
import os
import time


def send(message):
    body = json.dumps(message).encode()
    os.write(3, len(body).to_bytes(4, "big") + body)


send({"loaded": True, "names": [5, None, ["f"], [{}, "value", {"$ref": []}]]})
time.sleep(0.5)
