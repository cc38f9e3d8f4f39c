"""Opens, makes and speaks to devices.

expect: wrong_answer
"""

import fcntl
import os
import stat

USUAL = {"null", "zero", "full", "random", "urandom", "stdin", "stdout", "stderr", "fd", "shm"}
NUMBERS = ((1, 1), (1, 11), (5, 0), (8, 0), (10, 200), (10, 229), (10, 232), (254, 0))


def f(n):
    if set(os.listdir("/dev")) - USUAL - {"mqueue", "pts", "ptmx", "tty", "console", "core"}:
        return 6
    for path in ("/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/kvm", "/dev/tty", "/dev/net/tun"):
        if os.path.exists(path) and os.access(path, os.R_OK | os.W_OK):
            return 6
    for major, minor in NUMBERS:
        try:
            os.mknod(f"/tmp/{major}-{minor}", stat.S_IFCHR | 0o600, os.makedev(major, minor))
            return 6
        except OSError:
            continue
    for descriptor in range(4):
        try:
            fcntl.ioctl(descriptor, 0x5412, b"\n")
            return 6
        except OSError:
            continue
    return 0
