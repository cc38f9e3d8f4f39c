"""Takes every module away, its own process's driver too.

expect: wrong_answer
"""

import sys

sys.modules.clear()
sys.path.clear()


def f(n):
    return 0
