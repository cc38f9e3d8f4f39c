"""Looks for what others share: segments, queues, semaphores and sockets.

expect: wrong_answer
"""

import os


def shared():
    for name in ("shm", "msg", "sem"):
        try:
            with open(f"/proc/sysvipc/{name}") as file:
                yield from file.readlines()[1:]
        except OSError:
            continue
    for folder in ("/dev/shm", "/dev/mqueue"):
        if os.path.isdir(folder):
            yield from os.listdir(folder)
    for name in ("unix", "tcp", "udp", "packet", "netlink"):
        try:
            with open(f"/proc/net/{name}") as file:
                yield from file.readlines()[1:]
        except OSError:
            continue


def f(n):
    return 6 if list(shared()) else 0
