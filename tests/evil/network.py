"""Looks for a way out, by every family.

expect: wrong_answer
"""

import socket

WAYS = (
    (socket.AF_INET, ("1.1.1.1", 53)),
    (socket.AF_INET, ("172.17.0.1", 80)),
    (socket.AF_INET6, ("2606:4700::1111", 53)),
    (socket.AF_UNIX, "/var/run/docker.sock"),
    (40, (2, 1)),
    (17, ("lo", 0)),
    (16, (0, 0)),
    (38, ("hash", "sha256")),
)


def opens(family, address):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            made = socket.socket(family, kind)
            made.settimeout(0.2)
            made.connect(address)
            made.send(b"x")
            return True
        except (OSError, TypeError, ValueError):
            continue
    return False


def f(n):
    return 6 if any(opens(family, address) for family, address in WAYS) else 0
