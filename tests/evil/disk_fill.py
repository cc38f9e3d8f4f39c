"""Writes files without end.

expect: runtime_error
"""


def f(n):
    for number in range(10000):
        with open(f"/tmp/{number}", "wb") as file:
            file.write(bytes(1 << 20))
