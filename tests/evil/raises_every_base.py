"""Raises what is no Exception, and what means the end of something elsewhere.

expect: runtime_error
"""

KINDS = (KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration, BaseException)


def f(n):
    raise KINDS[n % len(KINDS)]
