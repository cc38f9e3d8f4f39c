"""A forked process and its streams, as the supervisor sees them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time

HEAD = TAIL = 2048


class Infra(Exception):
    """The sandbox itself failed; says how. Never a statement about the program."""


class Limited(Exception):
    """The program hit a limit and is dead."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Ended(Exception):
    """The program's process is gone; the wait status says how."""


class Stream:
    """One drained, counted, capped output."""

    def __init__(self, keep: int) -> None:
        self.bytes = 0
        self._keep = keep
        self._kept = bytearray()
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Count ``data``; keep what fits in front and the last piece of the rest."""
        self.bytes += len(data)
        room = self._keep - len(self._kept)
        if room > 0:
            self._kept += data[:room]
            data = data[room:]
        if data:
            self._tail = (self._tail + data)[-TAIL:]

    @property
    def kept(self) -> bytes:
        """The front, up to the number of bytes asked for."""
        return bytes(self._kept)

    def head(self) -> str:
        """The first bytes, as text."""
        return bytes(self._kept[:HEAD]).decode("utf-8", "replace")

    def tail(self) -> str:
        """The last bytes after the head, as text."""
        whole = bytes(self._kept[HEAD:]) + self._tail
        return whole[-TAIL:].decode("utf-8", "replace")


class Forker:
    """Our side of the control socket of a process that forks for us."""

    def __init__(self, control: socket.socket, pid: int) -> None:
        self._control = control
        self.pid = pid

    def request(self, size: int, descriptors: list[int]) -> None:
        """Ask for a process with ``size`` MiB of files that gets ``descriptors``.

        ``collect`` tells of it.
        """
        socket.send_fds(self._control, [b"%d" % size], descriptors)

    def collect(self) -> tuple[int, list[int]]:
        """Return the number and the descriptors that answer the oldest request; raises Infra."""
        data, descriptors, _, _ = socket.recv_fds(self._control, 4096, 1)
        if not data:
            raise Infra("the process that forks for us died")
        if not data.isdigit():
            raise Infra(data.decode())
        return int(data), descriptors


def resident(pid: int) -> int:
    """Bytes of memory that process ``pid`` holds; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def peak(pid: int) -> int:
    """Most bytes of memory that the living process ``pid`` has held; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        return 0
    return 0


def close_all(descriptors: list[int]) -> None:
    """Close every descriptor given."""
    for descriptor in descriptors:
        os.close(descriptor)


class Process:
    """A forked child: pid, pidfd, and how it ended."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self._clock = (~pid << 3) | 2  # the kernel's id for all CPU time of one process
        self._cpu_s = 0.0
        self.status: int | None = None
        self.peak_bytes = 0
        self.ended_cpu_s = 0.0

    def cpu_s(self) -> float:
        """CPU seconds used so far by all threads."""
        if self.status is not None:
            return self.ended_cpu_s
        try:
            self._cpu_s = time.clock_gettime(self._clock)
        except OSError:
            return self._cpu_s
        return self._cpu_s

    def children_cpu_s(self) -> float:
        """CPU seconds of the children that the living process has waited for."""
        if self.status is not None:
            return 0.0  # wait4 has counted them
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return not poller.poll(0)

    def reap(self) -> None:
        """Wait for the end, which has come or is coming."""
        if self.status is None:
            _, self.status, usage = os.wait4(self.pid, 0)
            self.ended_cpu_s = usage.ru_utime + usage.ru_stime
            self.peak_bytes = usage.ru_maxrss * 1024
            os.close(self.pidfd)

    def end(self) -> None:
        """Kill, and don't wait for it."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill and reap. For the first process of a pid namespace, that ends all others in it."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.reap()


class TesterProcess:
    """A tester: not our child, so it is known by its pidfd."""

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd
        self.pid = 0
        with open(f"/proc/self/fdinfo/{pidfd}") as file:
            for line in file:
                if line.startswith("Pid:"):
                    self.pid = int(line[4:])

    def kill(self) -> None:
        """Kill it and wait for its end; may be called once."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        poller.poll()
        os.close(self._pidfd)
