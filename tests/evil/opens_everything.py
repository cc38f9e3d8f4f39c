"""Uses up its descriptors.

expect: wrong_answer
"""

held = []


def f(n):
    try:
        while True:
            held.append(open("/dev/null"))  # noqa: SIM115
    except OSError:
        return 0
