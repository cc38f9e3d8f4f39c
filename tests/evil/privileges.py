"""Looks for a way to more rights: users, capabilities, programs that lend theirs.

expect: wrong_answer
"""

import ctypes
import os
import stat

libc = ctypes.CDLL(None)


def gained():
    for name in ("setuid", "setgid", "seteuid", "setegid"):
        try:
            getattr(os, name)(0)
            yield name
        except OSError:
            continue
    try:
        os.setgroups([0])
        yield "setgroups"
    except OSError:
        pass
    yield from [1] if libc.prctl(47, 2, 21, 0, 0) == 0 else []
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("Cap") and int(line.split()[1], 16):
                yield line
    for name in os.listdir("/usr/bin"):
        path = os.path.join("/usr/bin", name)
        mode = os.stat(path).st_mode if os.path.exists(path) else 0
        if mode & stat.S_ISUID and os.spawnv(os.P_WAIT, path, [name, "--help"]) < 0:
            continue
    if os.getuid() == 0 or os.geteuid() == 0:
        yield "root"


def f(n):
    return 6 if list(gained()) else 0
