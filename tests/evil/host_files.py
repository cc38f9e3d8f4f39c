"""Looks for the engine's socket, for homes, and for secrets of the host's.

expect: wrong_answer
"""

import os

PLACES = ("/var/run/docker.sock", "/run/docker.sock", "/root/.ssh", "/root/.cache", "/etc/shadow")


def readable(path):
    try:
        if os.path.isdir(path):
            return bool(os.listdir(path))
        with open(path, "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def f(n):
    return 6 if any(readable(path) for path in PLACES) or os.listdir("/home") else 0
