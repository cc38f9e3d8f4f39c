"""Starts a child to trace it and to read and write its memory from outside.

expect: wrong_answer
"""

import ctypes
import os
import signal
import time

libc = ctypes.CDLL(None)
libc.process_vm_readv.argtypes = (
    [ctypes.c_int] + [ctypes.c_void_p, ctypes.c_ulong] * 2 + [ctypes.c_ulong]
)


class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def f(n):
    child = os.fork()
    if child == 0:
        time.sleep(10)
        os._exit(0)
    word = ctypes.c_long(0)
    mine = Piece(ctypes.addressof(word), 8)
    theirs = Piece(ctypes.addressof(ctypes.c_long(1)), 8)
    read = libc.process_vm_readv(child, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)
    traced = libc.ptrace(16, child, 0, 0) == 0 or libc.ptrace(0x4206, child, 0, 0) == 0
    stolen = libc.syscall(438, os.pidfd_open(child), 1, 0) >= 0
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 6 if read > 0 or traced or stolen else 0
