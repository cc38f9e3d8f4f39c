"""Looks for the tests, and for secrets, in what a process is started with.

expect: wrong_answer
"""

import os
import sys


def texts():
    yield from os.environ.values()
    yield from sys.argv
    yield from getattr(sys, "orig_argv", ())
    yield os.getcwd()
    for name in ("cmdline", "environ", "comm", "wchan", "stack", "cgroup"):
        for process in ("self", "1", "2", "3"):
            try:
                with open(f"/proc/{process}/{name}", "rb") as file:
                    yield file.read().decode("utf-8", "replace")
            except OSError:
                continue


def f(n):
    secrets = [name for name in os.environ if "TOKEN" in name or "KEY" in name or "SECRET" in name]
    needle = "candidate(1" + "23)"
    return 6 if secrets or any(needle in text for text in texts()) else 0
