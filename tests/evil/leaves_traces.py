"""Leaves a mark wherever it may, and looks for the mark of an earlier run.

expect: wrong_answer
"""

import ctypes
import os
import socket

libc = ctypes.CDLL(None)
KEY = 0x6576696C
PLACES = ("/tmp", "/dev/shm", "/var/tmp", "/dev/mqueue", "/run", "/dev", "/proc/self", "/sys")


def found():
    yield from (place for place in PLACES if os.path.exists(place + "/evil-mark"))
    yield from [KEY] * (libc.shmget(KEY, 0, 0) >= 0)
    yield from [KEY] * (libc.msgget(KEY, 0) >= 0)
    yield from [KEY] * (libc.semget(KEY, 0, 0) >= 0)
    yield from [KEY] * (socket.gethostname() == "evil-mark")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect("\0evil-mark")
            yield "socket"
        except OSError:
            return


seen = list(found())
for place in PLACES:
    try:
        os.mkdir(place + "/evil-mark")
    except OSError:
        continue
libc.shmget(KEY, 4096, 0o1600)
libc.msgget(KEY, 0o1600)
libc.semget(KEY, 1, 0o1600)
libc.sethostname(b"evil-mark", 9)
listener = socket.socket(socket.AF_UNIX)
listener.bind("\0evil-mark")
listener.listen()


def f(n):
    return 6 if seen else 0
