"""Promises a long frame, writes its beginning and ends.

expect: runtime_error
"""

import os


def f(n):
    os.write(3, (1 << 20).to_bytes(4, "big") + b'{"id":1,"value":6')
    os._exit(0)
