"""Tries every system call that is younger than the filter.

expect: wrong_answer
"""

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
MEANT_TO_WORK = {424, 434, 436, 437, 439, 441, 449}


def there(call):
    libc.syscall(call, -1, 0, 0, 0, 0, 0)
    return ctypes.get_errno() != 38


def f(n):
    return 6 if any(there(call) for call in range(424, 512) if call not in MEANT_TO_WORK) else 0
