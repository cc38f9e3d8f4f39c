"""Holds memory in pipes and sockets that nobody reads.

expect: wrong_answer
"""

import contextlib
import fcntl
import os
import socket

held = []


def fill(descriptor):
    os.set_blocking(descriptor, False)
    try:
        while True:
            os.write(descriptor, bytes(1 << 16))
    except OSError:
        return


def f(n):
    try:
        while True:
            reader, writer = os.pipe()
            held.append((reader, writer))
            with contextlib.suppress(OSError):
                fcntl.fcntl(writer, 1031, 1 << 20)
            fill(writer)
            pair = socket.socketpair()
            held.append(pair)
            fill(pair[0].fileno())
    except OSError:
        return 0
