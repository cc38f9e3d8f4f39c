"""Runs one command so that neither it nor its children outlive the process that asked for it.

Run as a script, with the standard library only: `python -I -S guard.py PARENT_PID COMMAND...`.
It stays in its parent's process group, so that a signal to the group reaches everything at once. A
model server is several processes that don't notice each other's death; so the guard adopts orphans
(subreaper) and ends the whole tree when the command ends, when it is told to (SIGTERM), or when its
own parent is gone. It polls for its parent: the kernel's parent-death signal is tied to the thread
that forked, and a pipe would stay open in the parent's other children.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

#: Seconds between SIGTERM and SIGKILL.
GRACE_S = 1.0
_POLL_S = 0.1
#: Seconds that the trackers have to tidy up; with the grace it stays under the five of a stop.
_TRACKER_S = 0.8
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: Python's own helper, which removes shared memory once every user of it is gone.
_TRACKER = b"multiprocessing.resource_tracker"


def descendants(root: int) -> list[int]:
    """Returns the ids of all living processes below `root`, parents before children."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # A process's name may be cut inside a letter.
            text = (folder / "stat").read_text(errors="replace")
            state, parent = text.rpartition(")")[2].split()[:2]
        except OSError:
            continue  # ended while we looked
        if state != "Z":
            children.setdefault(int(parent), []).append(int(folder.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found[1:]


def kill_descendants(root: int) -> None:
    """Kills everything below `root`, Python's shared-memory trackers last and only if they stay."""
    for patience in (_TRACKER_S, 0.0):
        for pid in descendants(root):
            if not (patience and _is_tracker(pid)):
                _send(pid, signal.SIGKILL)
        deadline = time.monotonic() + patience
        while descendants(root) and time.monotonic() < deadline:
            time.sleep(0.02)


def _is_tracker(pid: int) -> bool:
    try:
        return _TRACKER in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed")


def guard(parent: int, command: list[str]) -> int:
    """Runs the command to its end; see the module.

    Args:
        parent: Id of the process whose death ends the command.
        command: Absolute path of a program, and its arguments.

    Returns:
        The command's exit status, as a shell gives it (128 + n for signal n).
    """
    with tempfile.TemporaryDirectory(prefix="align-", ignore_cleanup_errors=True) as scratch:
        return _guard(parent, command, scratch)


def _guard(parent: int, command: list[str], scratch: str) -> int:
    """Runs the command with its temporary files in `scratch`: killed servers leave sockets."""
    told = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which decides
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    server = os.fork()
    if server == 0:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # if somebody kills the guard itself
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.execve(command[0], command, {**os.environ, "TMPDIR": scratch})

    status: int | None = None
    deadline: float | None = None
    while status is None:
        status = _reap(server)
        if status is not None:
            break
        now = time.monotonic()
        if deadline is None and (told or os.getppid() != parent):
            _send(server, signal.SIGTERM)
            deadline = now + GRACE_S
        if deadline is not None and now >= deadline:
            _send(server, signal.SIGKILL)
        time.sleep(_POLL_S)
    kill_descendants(os.getpid())
    _reap(server)  # the orphans are ours; not every init collects what it inherits
    return status


def _reap(server: int) -> int | None:
    """Collects ended children; returns the server's exit status once it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == server:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(guard(int(sys.argv[1]), sys.argv[2:]))
