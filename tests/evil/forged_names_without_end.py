"""Says that it defines more than anybody can hold.

expect: tampered
"""

import os
import time

body = b'{"loaded":true,"names":[["x","value",[' + b"[]," * 2600000 + b"0]]]}"
view = memoryview(len(body).to_bytes(4, "big") + body)
while view:
    view = view[os.write(3, view) :]
time.sleep(0.5)


def f(n):
    return 0
