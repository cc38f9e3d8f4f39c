"""The process that every other one is forked from: imports done, nothing secret ever in its memory.

It sees a role, a size and descriptors. Programs and tests travel past it, from the supervisor
straight to the fork, so a fork inherits no earlier run's words.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import sys
from typing import Any

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
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "inspect",
    "io",
    "itertools",
    "json",
    "keyword",
    "linecache",
    "math",
    "numbers",
    "numpy",
    "operator",
    "pprint",
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

READY = b"\x00\x00\x00\x0e" + b'{"ready":true}'


def _child(request: dict[str, Any], descriptors: list[int], flags: int) -> None:
    wire = 4 if request["role"] == "tester" else 3
    try:
        jail.keep_only({source: target for target, source in enumerate(descriptors)})
        jail.enter(flags, request["uid"], request["gid"], request["tmp_mb"], request["victim"])
        if request["role"] == "tester":
            jail.set_dumpable(False)
        gc.enable()
        os.write(wire, READY)
    except BaseException as error:
        os.write(2, f"jail: {type(error).__name__}: {error}\n".encode())
        os._exit(97)
    if request["role"] == "tester":
        tester.main(3, 4)
    else:
        driver.main(3)


def main(control: socket.socket, nested: bool) -> None:
    """Serve spawn requests until the supervisor closes ``control``; never returns."""
    for name in PRELOAD:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    syscall_filter.prepare()
    uid, gid = os.getuid(), os.getgid()
    jail.set_dumpable(False)
    gc.collect()
    gc.freeze()
    gc.disable()
    control.send(b"{}")
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 65536, 8)
        if not data:
            os._exit(0)
        request = json.loads(data)
        request.update(uid=uid, gid=gid)
        flags = jail.TESTER if request["role"] == "tester" else jail.SOLUTION
        flags = flags if nested else 0
        try:
            pid = jail.spawn(flags)
        except OSError as error:
            reply: dict[str, Any] = {"error": str(error)}
        else:
            if pid == 0:
                _child(request, descriptors, flags)
                sys.exit(98)
            reply = {"pid": pid}
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(json.dumps(reply).encode())
