"""Fills the shared memory folder.

expect: runtime_error
"""


def f(n):
    with open("/dev/shm/evil-fill", "wb") as file:
        while True:
            file.write(bytes(1 << 20))
