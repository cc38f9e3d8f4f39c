"""Opens a socket of every family and kind, and a raw one where it may open any.

expect: wrong_answer
"""

import socket

DEAD_ENDS = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET, 10)


def opens(family, kind, protocol):
    try:
        socket.socket(family, kind, protocol).close()
        return True
    except OSError:
        return False


def f(n):
    opened = [
        (family, kind)
        for family in range(64)
        if family not in DEAD_ENDS
        for kind in KINDS
        for protocol in (0, 3, 15, 768)
        if opens(family, kind, protocol)
    ]
    raw = [family for family in DEAD_ENDS[1:] if opens(family, socket.SOCK_RAW, 1)]
    return 6 if opened or raw else 0
