"""Listens to every audit event for the tests, and forbids what it can.

expect: wrong_answer
"""

import sys

heard = []


def listen(event, arguments):
    heard.append(repr(arguments))
    if event in ("compile", "exec", "object.__getattr__"):
        raise RuntimeError(event)


sys.addaudithook(listen)


def f(n):
    needle = "candidate(1" + "23)"
    return 6 if any(needle in text for text in heard) else 0
