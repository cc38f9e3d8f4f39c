"""Changes what it can about its wire and its pipes, then answers.

expect: wrong_answer
"""

import fcntl
import os
import socket


def f(n):
    wire = socket.socket(fileno=os.dup(3))
    for option in range(1, 80):
        if option in (26, 44):  # a filter of its own, and the lock on it
            continue
        try:
            wire.setsockopt(socket.SOL_SOCKET, option, 1)
        except OSError:
            continue
    for descriptor in range(4):
        for command, value in ((fcntl.F_SETFL, os.O_ASYNC), (1031, 4096), (fcntl.F_SETOWN, 1)):
            try:
                fcntl.fcntl(descriptor, command, value)
            except OSError:
                continue
    return 0
