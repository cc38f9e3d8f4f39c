"""Sends urgent data, which wakes a reader and gives it nothing.

expect: runtime_error
"""

import os
import socket
import time


def f(n):
    wire = socket.socket(fileno=3)
    wire.shutdown(socket.SHUT_RD)
    for _ in range(5):
        time.sleep(0.1)
        try:
            wire.send(b"!", socket.MSG_OOB)
        except OSError:
            continue
    os._exit(0)
