"""Shuts the wire down in the middle of a call and ends with status 0.

expect: runtime_error
"""

import os
import socket
import time


def f(n):
    socket.socket(fileno=3).shutdown(socket.SHUT_RDWR)
    time.sleep(0.2)
    os._exit(0)
