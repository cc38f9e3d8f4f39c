"""Makes itself the last one to be killed where memory runs out.

expect: wrong_answer
"""


def f(n):
    with open("/proc/self/oom_score_adj") as file:
        before = int(file.read())
    for value in ("-1000", "-1", "0", str(before - 1)):
        try:
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write(value)
            return 6
        except OSError:
            continue
    return 0
