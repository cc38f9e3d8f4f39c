"""Has the kernel kill it, by a limit that it lowers, as if someone outside had done so.

expect: runtime_error
"""

import resource


def f(n):
    resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
    while True:
        pass
