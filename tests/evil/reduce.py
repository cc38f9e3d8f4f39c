"""Returns an object that would run code where it is unpickled.

expect: wrong_answer
"""

import os


class Payload:
    def __reduce__(self):
        return os.system, ("touch /tmp/owned",)


def f(n):
    return Payload()
