"""Raises its own resource limits.

expect: wrong_answer
"""

import resource


def f(n):
    for name in ("RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_NOFILE"):
        kind = getattr(resource, name)
        try:
            resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            return 6
        except (OSError, ValueError):
            continue
    return 0
