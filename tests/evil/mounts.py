"""Mounts, binds, remounts and moves, by the old calls and by the new.

expect: wrong_answer
"""

import ctypes
import os

libc = ctypes.CDLL(None)
WAYS = (
    (b"none", b"/tmp", b"tmpfs", 0),
    (b"proc", b"/proc", b"proc", 0),
    (b"/tmp", b"/usr", None, 4096),
    (b"none", b"/", None, 32 | 4096),
    (b"none", b"/", None, 16384 | (1 << 20)),
    (b"none", b"/dev", None, 32),
    (b"/tmp", b"/dev/shm", None, 8192),
    (b"overlay", b"/tmp", b"overlay", 0),
    (b"fuse", b"/tmp", b"fuse", 0),
)


def f(n):
    worked = [way for way in WAYS if libc.mount(*way, None) == 0]
    worked += [path for path in (b"/tmp", b"/dev/shm", b"/proc") if libc.umount2(path, 2) == 0]
    worked += [call for call in (428, 429, 430, 431, 432, 433, 442) if libc.syscall(call, -1) >= 0]
    worked += (
        [1] if libc.syscall(155 if os.uname().machine == "x86_64" else 41, b".", b".") == 0 else []
    )
    return 6 if worked else 0
