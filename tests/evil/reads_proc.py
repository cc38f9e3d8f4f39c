"""Looks for the tests in the memory and environment of every process it sees.

expect: wrong_answer
"""

import os


def pieces():
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    yield file.read()
            except OSError:
                continue
        if int(pid) == os.getpid():
            continue
        try:
            with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
                for line in maps:
                    low, _, high = line.split()[0].partition("-")
                    memory.seek(int(low, 16))
                    yield memory.read(int(high, 16) - int(low, 16))
        except (OSError, ValueError, OverflowError):
            continue


def f(n):
    needle = b"candidate(1" + b"23)"
    return 6 if any(needle in piece for piece in pieces()) else 0
