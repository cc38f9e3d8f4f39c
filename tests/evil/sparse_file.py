"""Makes a file larger than the disk, and maps it.

expect: runtime_error
"""

import mmap


def f(n):
    with open("/tmp/evil-sparse", "w+b") as file:
        file.truncate(1 << 40)
        held = mmap.mmap(file.fileno(), 1 << 32)
        for page in range(0, 1 << 32, 4096):
            held[page] = 1
