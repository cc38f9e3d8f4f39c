"""The process that every other one is forked from: imports done, nothing secret ever in its memory.

It sees a size and descriptors. Programs and tests travel past it, from the supervisor straight to
the fork, so a fork inherits no earlier run's words. Testers are forked by a second one, that has
closed their walls around itself first.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket

from sandbox.guest import driver, jail, tester
from sandbox.guest import filter as syscall_filter

# What programs of this kind import; absent ones are skipped: the image may be a smaller Python, and
# only one variant of it has numpy. Not threading: its fork hook touches so many pages that every
# run would pay for the few that use it.
PRELOAD = [
    "abc",
    "array",
    "bisect",
    "calendar",
    "cmath",
    "collections",
    "collections.abc",
    "contextlib",
    "copy",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "io",
    "itertools",
    "json",
    "keyword",
    "linecache",
    "math",
    "numbers",
    "numpy",
    "operator",
    "random",
    "re",
    "statistics",
    "string",
    "struct",
    "textwrap",
    "time",
    "traceback",
    "types",
    "typing",
    "unicodedata",
    "warnings",
]

_SPACE = socket.CMSG_SPACE(8 * 4)
READY = b"\x00\x00\x00\x0e" + b'{"ready":true}'


def _take(descriptors: list[int]) -> None:
    """In the child of either kind: take its descriptors as 0, 1, 2, ..."""
    jail.take(descriptors)
    gc.enable()


def _fail(error: BaseException) -> None:
    os.write(2, f"jail: {type(error).__name__}: {error}\n".encode())
    os._exit(97)


def _solution(descriptors: list[int], flags: int, uid: int, gid: int, tmp_mb: int) -> None:
    try:
        _take(descriptors)
        jail.enter(flags, uid, gid, tmp_mb, 1000)
        os.write(3, READY)
    except BaseException as error:
        _fail(error)
    driver.main(3)


def _tester(descriptors: list[int]) -> None:
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _take(descriptors)
        os.write(4, READY)
    except BaseException as error:
        _fail(error)
    tester.main(3, 4)


def _next(control: socket.socket) -> tuple[int, list[int]]:
    """Wait for a request: its number and its descriptors; ends with whoever asks.

    Bare calls here too: what runs between two forks writes to pages that the last one shares.
    """
    data, ancillary, _, _ = control.recvmsg(16, _SPACE)
    if not data:
        os._exit(0)
    return int(data), memoryview(ancillary[0][2]).cast("i").tolist()


def _serve_testers(control: socket.socket, nested: bool, uid: int, gid: int) -> None:
    """Fork testers from inside their walls; each new one ends what is left of the one before."""
    try:
        jail.enter(jail.TESTER if nested else 0, uid, gid, 0, 500)
        jail.set_dumpable(False)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead need no burial
    except BaseException as error:
        _fail(error)
    while True:
        _, descriptors = _next(control)
        if nested:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        pid = os.fork()
        if pid == 0:
            _tester(descriptors)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(control, [b"0"], [pidfd])
        for descriptor in (*descriptors, pidfd):
            os.close(descriptor)


def _warm_up() -> None:
    """Go once through what every fork will do, so that it finds its code and caches as they end up.

    Python rewrites code while it first runs, and a page that is written to is a page copied.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        driver.rehearse(ours.fileno(), theirs.fileno())
    jail.limit("RLIMIT_CORE", 0)


def main(control: socket.socket, testers: socket.socket, nested: bool) -> None:
    """Serve spawn requests until the supervisor closes ``control``; never returns."""
    for name in PRELOAD:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    if nested:
        # One network for all runs of the slot, without an interface that is up: a new one would
        # cost each run as much as all its other namespaces, and nothing in it outlives a process.
        jail.enter_slot()
    uid, gid = os.getuid(), os.getgid()
    syscall_filter.begin(jail.libc)
    jail.set_dumpable(False)
    _warm_up()
    gc.collect()
    gc.freeze()
    gc.disable()
    pid = jail.Spawner(jail.TESTER if nested else 0)()
    if pid == 0:
        control.close()
        _serve_testers(testers, nested, uid, gid)
    testers.close()
    control.send(b"%d" % pid)
    flags = jail.SOLUTION if nested else 0
    spawn = jail.Spawner(flags)
    while True:
        tmp_mb, descriptors = _next(control)
        try:
            pid = spawn()
        except OSError as error:
            reply = str(error).encode()
        else:
            if pid == 0:
                _solution(descriptors, flags, uid, gid, tmp_mb)
            reply = b"%d" % pid
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(reply)
