"""Leaves links, loops, pipes and sockets where files are expected, and folders without end.

expect: wrong_answer
"""

import os
import socket


def f(n):
    os.symlink("/etc/passwd", "/tmp/passwd")
    os.symlink("/tmp/loop", "/tmp/loop")
    os.symlink("/proc/self/fd/3", "/tmp/wire")
    os.mkfifo("/tmp/solution.py")
    os.mkfifo("/dev/shm/evil-fifo")
    socket.socket(socket.AF_UNIX).bind("/tmp/evil-socket")
    open("/tmp/" + "\n\x1b[31m".ljust(250, "x"), "w").close()
    for _ in range(300):
        os.mkdir("evil-deeper")
        os.chdir("evil-deeper")
    os.mkdir("/tmp/evil-closed", 0o000)
    os.chmod("/tmp", 0o000)
    return 0
