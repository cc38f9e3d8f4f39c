"""Processes in their walls before there is a program for them: making those is half of a run.

Whatever a spare could tell, it is the same for every run: it has seen neither a program nor a test.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket

from sandbox.guest.process import Forker, Infra, Process, TesterProcess, close_all, resident

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
READY = b'{"ready":true}'


class Forkers:
    """Who forks for us: the zygote, and the one of the testers, a child of ours, too."""

    def __init__(self, zygote: Forker, testers: Forker) -> None:
        self.zygote = zygote
        self.testers = testers
        self.pids = {zygote.pid, testers.pid}
        self.resident = resident(zygote.pid)


class Spare:
    """One process for a program, one for its tester where asked for, and our ends of their wires.

    Attributes:
        channel: the program's frames; the tester holds a copy.
        report: the tester's frames; None without a tester.
        stdout: where the program's standard output is read, as a descriptor.
        stderr: the same of its standard error.
    """

    def __init__(self, forkers: Forkers, tmp_mb: int, with_tester: bool) -> None:
        self._forkers = forkers
        self._collected = False
        self.kind = tmp_mb, with_tester
        self._stdin = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.stdout, out_write = os.pipe()
        self.stderr, error_write = os.pipe()
        self.channel, theirs = socket.socketpair()
        wires = [self._stdin, out_write, error_write, theirs.fileno()]
        self._null = os.open("/dev/null", os.O_RDWR)
        self.report: socket.socket | None = None
        self._process: Process | None = None
        self._tester: TesterProcess | None = None
        try:
            forkers.zygote.request(tmp_mb, wires)
            if with_tester:
                self.report, reporter = socket.socketpair()
                wires = [self._null] * 3 + [self.channel.fileno(), reporter.fileno()]
                with reporter:
                    forkers.testers.request(0, wires)
        finally:
            close_all([out_write, error_write])
            theirs.close()

    def collect(self) -> None:
        """Learn the processes' ids; raises Infra where one could not be made."""
        if self._collected:
            return
        self._collected = True
        try:
            self._process = Process(self._forkers.zygote.collect()[0])
        finally:
            if self.kind[1]:
                self._tester = TesterProcess(self._forkers.testers.collect()[1][0])

    @property
    def process(self) -> Process:
        """The program's process."""
        self.collect()
        assert self._process is not None
        return self._process

    def pids(self) -> set[int]:
        """Both processes' ids, as we see them."""
        self.collect()
        return {process.pid for process in (self._process, self._tester) if process is not None}

    def tester_pids(self) -> set[int]:
        """The tester's id."""
        self.collect()
        return set() if self._tester is None else {self._tester.pid}

    def feed(self, stdin: bytes) -> None:
        """Fill the program's standard input, for good."""
        view, at = memoryview(stdin), 0
        while at < len(view):
            at += os.pwrite(self._stdin, view[at:], at)
        fcntl.fcntl(self._stdin, fcntl.F_ADD_SEALS, _SEALS)

    def close(self) -> None:
        """End both processes and close our ends."""
        with contextlib.suppress(Infra):  # one that was never made needs no end
            self.collect()
        for process in (self._process, self._tester):
            if process is not None:
                process.kill()
        close_all([self._stdin, self._null, self.stdout, self.stderr])
        self.channel.close()
        if self.report is not None:
            self.report.close()


class Spares:
    """The next spare, made while the host is busy with the last reply."""

    def __init__(self, forkers: Forkers, ahead: bool) -> None:
        self._forkers = forkers
        self._ahead = ahead
        self._next: Spare | None = None

    def take(self, tmp_mb: int, with_tester: bool) -> Spare:
        """Return a spare of the kind; it is the caller's to close."""
        spare, self._next = self._next, None
        # One that was ended while it waited would look like a program that was killed.
        fits = spare is not None and spare.kind == (tmp_mb, with_tester)
        if spare is not None and not (fits and spare.process.is_alive()):
            spare.close()
            spare = None
        return spare or Spare(self._forkers, tmp_mb, with_tester)

    def prepare(self, tmp_mb: int, with_tester: bool) -> None:
        """Begin to make the next one, where that is allowed and none is there."""
        if self._ahead and self._next is None:
            self._next = Spare(self._forkers, tmp_mb, with_tester)

    def pids(self) -> set[int]:
        """Ids of processes that belong to no run yet."""
        return set() if self._next is None else self._next.pids()
