"""Writes a report of success to every descriptor.

expect: tampered
"""

import os

body = b'{"test":0,"status":"passed","detail":"","op":"done"}'
for descriptor in range(3, 256):
    try:
        os.write(descriptor, len(body).to_bytes(4, "big") + body)
    except OSError:
        continue


def f(n):
    return 0
