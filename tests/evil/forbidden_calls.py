"""Tries the system calls that a jail must refuse.

expect: wrong_answer
"""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
X86 = {"keyctl": 250, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "perf": 298}
ARM = {"keyctl": 219, "bpf": 280, "userfaultfd": 282, "io_uring_setup": 425, "perf": 241}


def f(n):
    numbers = X86 if os.uname().machine == "x86_64" else ARM
    worked = [name for name, call in numbers.items() if libc.syscall(call, 0, 0, 0, 0, 0) >= 0]
    worked += ["unshare"] if libc.unshare(0x10000000) == 0 else []
    worked += ["mount"] if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0 else []
    worked += ["umount"] if libc.umount2(b"/tmp", 2) == 0 else []
    worked += ["chroot"] if libc.chroot(b"/tmp") == 0 else []
    worked += ["ptrace"] if libc.ptrace(0, 0, 0, 0) == 0 else []
    worked += ["setuid"] if libc.setuid(0) == 0 else []
    return 6 if worked else 0
