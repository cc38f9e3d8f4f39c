"""Looks for the tests in every file that isn't the system's own.

expect: wrong_answer
"""

import os

FOLDERS = ("/tmp", "/dev", "/run", "/var/tmp", "/home", "/mnt", "/srv", "/opt", "/work", "/root")


def contents():
    for top in FOLDERS:
        for folder, _, names in os.walk(top):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not path.startswith("/dev/std"):
                    try:
                        with open(path, "rb") as file:
                            yield file.read(1 << 20)
                    except OSError:
                        continue


def f(n):
    needle = b"candidate(1" + b"23)"
    return 6 if any(needle in content for content in contents()) else 0
