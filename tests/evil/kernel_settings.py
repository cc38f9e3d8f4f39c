"""Changes the kernel's settings wherever a file lets it.

expect: wrong_answer
"""

import os

ALONE = ("/proc/sysrq-trigger", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/loginuid")


def writable():
    for top in ("/proc/sys", "/sys"):
        for folder, _, names in os.walk(top):
            yield from (os.path.join(folder, name) for name in names)
    yield from ALONE


def changes(path):
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except OSError:
        return False
    try:
        return os.write(descriptor, b"1") > 0
    except OSError:
        return False
    finally:
        os.close(descriptor)


def f(n):
    return 6 if any(changes(path) for path in writable()) else 0
