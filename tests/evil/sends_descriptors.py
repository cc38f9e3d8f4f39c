"""Sends descriptors along with a frame, its own end of the wire among them.

expect: tampered
"""

import array
import os
import socket


def f(n):
    wire = socket.socket(fileno=os.dup(3))
    body = b'{"status":"passed","test":0}'
    held = array.array("i", [3, 0, 1, 2] * 20)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, held)]
    wire.sendmsg([len(body).to_bytes(4, "big") + body], rights)
    return 0
