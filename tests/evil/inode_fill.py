"""Makes empty files without end.

expect: runtime_error
"""


def f(n):
    for number in range(1000000):
        open(f"/tmp/{number}", "w").close()
