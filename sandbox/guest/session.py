"""One program in its walls, seen from outside: its pipes, its clocks, its end.

A session is one forked program and, for asserts and scripts, one forked tester. It ends with the
program; the supervisor starts another for the tests that are left.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any

from sandbox import protocol, values
from sandbox.guest.process import (
    HEAD,
    Ended,
    Infra,
    Limited,
    Stream,
    peak,
    resident,
)
from sandbox.guest.spare import READY, Forkers, Spares

_TICK_S = 0.02
_GRACE_S = 1.0
_JAIL_S = 10.0


class Session:
    """One run of the program: ``stop`` it, then ``close`` it, and nothing of it survives."""

    def __init__(
        self,
        forkers: Forkers,
        spares: Spares,
        job: dict[str, Any],
        tests: int,
        stdin: bytes,
        nested: bool,
    ) -> None:
        self._forkers = forkers
        self._spares = spares
        self._limits = limits = job["limits"]
        self._nested = nested
        stdio = job["kind"] == "stdio"
        self.stdout, self.stderr = Stream(limits["output_bytes"] if stdio else 4096), Stream(HEAD)
        self.peak_bytes = 0
        self.cpu_ms = 0.0
        self._reader = protocol.FrameReader(values.MAX_PROGRAM_FRAME)
        self._frames: list[bytes] = []
        self.heartbeat: Callable[[], None] = lambda: None
        self.own_limits = {
            # Only the backstop for a program that outlives our own clock.
            "cpu_s": int(limits["cpu_ms"] * (tests + 1) / 1000) + 2,
            "memory_mb": limits["memory_mb"],
            "tmp_mb": limits["tmp_mb"],
            "pids": limits["pids"],
        }
        self._spare = spares.take(*spare_kind(job))
        try:
            self._spare.feed(stdin)
            self.process = self._spare.process
        except BaseException:
            self._spare.close()
            raise
        self.channel = self._spare.channel
        self._pipes = {self._spare.stdout: self.stdout, self._spare.stderr: self.stderr}
        self._report = self._spare.report
        self._listening = False
        self._report_reader = protocol.FrameReader(1 << 20)
        self._reports: list[bytes] = []
        self._open = set(self._pipes)
        self._standing = False
        self._channel_open = True
        for descriptor in self._pipes:
            os.set_blocking(descriptor, False)
        self.channel.setblocking(False)
        self.start_test()

    def stop(self) -> None:
        """Kill the program and take what it has written; ``close`` waits for its end."""
        if self.process.status is None:
            self.peak_bytes = max(self.peak_bytes, peak(self.process.pid))
        self.cpu_ms = (self.process.cpu_s() + self.process.children_cpu_s()) * 1000
        self.process.end()
        self._drain_rest()

    def close(self) -> None:
        """See that nothing of it is left."""
        self.process.kill()
        if not self._nested:
            self._kill_others()
        self._spare.close()

    # ------------------------------------------------------------------------------ clocks

    def start_test(self) -> None:
        """Give the next test its own budget."""
        self._cpu_start = self.process.cpu_s()
        self._wall_start = time.monotonic()
        self._written_before = self._written()

    def _written(self) -> int:
        return self.stdout.bytes + self.stderr.bytes

    def spent(self) -> tuple[float, float]:
        """CPU and wall milliseconds since the test began."""
        cpu = (self.process.cpu_s() - self._cpu_start) * 1000
        return max(0.0, cpu), (time.monotonic() - self._wall_start) * 1000

    def _enforce(self) -> None:
        cpu, wall = self.spent()
        if self._written() - self._written_before > self._limits["output_bytes"]:
            self._end("output_limit", f"wrote more than {self._limits['output_bytes']} bytes")
        if cpu > self._limits["cpu_ms"]:
            self._end("time_limit", f"used more than {self._limits['cpu_ms']} ms of CPU time")
        if wall > self._limits["wall_ms"]:
            self._end("time_limit", f"took more than {self._limits['wall_ms']} ms of wall time")
        if wall > 1000 * _TICK_S:
            used = self._memory()
            self.peak_bytes = max(self.peak_bytes, used)
            if used > self._limits["memory_mb"] << 20:
                self._end("memory_limit", f"held more than {self._limits['memory_mb']} MiB")

    def _end(self, status: str, detail: str) -> None:
        self.process.kill()
        raise Limited(status, detail)

    def _others(self) -> list[int]:
        ours = {1, os.getpid()} | self._forkers.pids
        ours |= self._spare.tester_pids() | self._spares.pids()
        return [
            int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in ours
        ]

    def _memory(self) -> int:
        # One run at a time: whoever is neither of ours is the program's. The zygote's pages are
        # shared.
        return sum(max(0, resident(pid) - self._forkers.resident) for pid in self._others())

    def _kill_others(self) -> None:
        for _ in range(100):
            others = self._others()
            if not others:
                return
            for pid in others:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            while True:
                try:
                    if os.waitpid(-1, os.WNOHANG)[0] == 0:
                        break
                except ChildProcessError:
                    break
        raise Infra("processes of the program would not die")

    # ------------------------------------------------------------------------------ talking

    def _pump(self, wait_channel: bool, outgoing: bytearray) -> None:
        """Wait for anything to happen, take it in, and enforce the limits."""
        poller = select.poll()
        for descriptor in self._open:
            poller.register(descriptor, select.POLLIN)
        if self._channel_open and (wait_channel or outgoing):
            events = (select.POLLIN if wait_channel else 0) | (select.POLLOUT if outgoing else 0)
            poller.register(self.channel, events)
        if self.process.status is None:
            poller.register(self.process.pidfd, select.POLLIN)
        if self._report is not None and self._listening:
            poller.register(self._report, select.POLLIN)
        cpu, wall = self.spent()
        left = min(self._limits["cpu_ms"] - cpu, self._limits["wall_ms"] - wall)
        happened = poller.poll(max(1.0, min(left, 1000 * max(_TICK_S, min(0.1, wall / 4000)))))
        for descriptor, _ in happened:
            if descriptor in self._open:
                self._drain(descriptor)
            elif self._report is not None and descriptor == self._report.fileno():
                data = self._report.recv(1 << 16)
                if not data:
                    raise Infra("the tester died")
                self._reports += self._report_reader.feed(data)
            elif descriptor == self.channel.fileno():
                self._exchange(wait_channel, outgoing)
            elif descriptor == self.process.pidfd:
                self.process.reap()
        self.heartbeat()
        if self.process.status is None and self._standing:
            self._enforce()
        elif not self._standing and time.monotonic() - self._wall_start > _JAIL_S:
            raise Infra(f"the jail took more than {_JAIL_S} s")

    def _exchange(self, wait_channel: bool, outgoing: bytearray) -> None:
        try:
            if outgoing:
                del outgoing[: self.channel.send(outgoing)]
            if wait_channel:
                data = self.channel.recv(1 << 18)
                self._channel_open = bool(data)
                self._frames += self._reader.feed(data)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._channel_open = False

    def _drain(self, descriptor: int) -> None:
        # A bounded share at a time: a flood must not keep us from the clocks.
        for _ in range(8):
            try:
                data = os.read(descriptor, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                self._open.discard(descriptor)
                return
            self._pipes[descriptor].feed(data)

    def _drain_rest(self) -> None:
        for descriptor in list(self._open):
            for _ in range(4):  # all writers are dead, and a pipe holds no more than this
                self._drain(descriptor)

    def next_frame(self, outgoing: bytes = b"") -> bytes:
        """Send a frame and return the body of the program's next one.

        Raises:
            Ended: the program is gone.
            Limited: it hit a limit and was killed.
            ProtocolError: it wrote something else than frames.
        """
        buffer = bytearray(outgoing)
        while not self._frames:
            if self.process.status is not None and not self._channel_open:
                raise Ended
            if self.process.status is not None or not self._channel_open:
                self._wait_end()
                self._take_rest()
                continue
            self._pump(True, buffer)
        return self._frames.pop(0)

    def _take_rest(self) -> None:
        """Read what a dead program left on its wire."""
        while self._channel_open:
            before = self._reader.pending, len(self._frames)
            self._exchange(True, bytearray())
            if before == (self._reader.pending, len(self._frames)):
                self._channel_open = False

    def _wait_end(self) -> None:
        """The program closed its wire: it may still be running, within its limits."""
        while self.process.status is None:
            self._pump(False, bytearray())

    def run_to_end(self) -> None:
        """Let a whole program run until it exits, taking its frames as they come."""
        self._listening = False  # a tester that has said its last word ends
        while self.process.status is None:
            self._pump(self._channel_open, bytearray())
            if len(self._frames) > 1:  # what broke it, and no more
                raise protocol.ProtocolError("frames that nobody asked for")
        self._take_rest()
        self._drain_rest()

    def take_frames(self) -> list[bytes]:
        """Frames that have come and nobody asked for."""
        frames, self._frames = self._frames, []
        return frames

    def ready(self) -> None:
        """Wait until the jail stands; raises Infra with its words if it doesn't."""
        try:
            body = self.next_frame()
        except (Ended, Limited):
            self._drain_rest()
            raise Infra("the jail could not be closed: " + self.stderr.head().strip()) from None
        if body != READY:
            raise Infra("the jail said something else than ready")
        self._standing = True  # from here on the program's limits hold

    # ------------------------------------------------------------------------------ tester

    def start_tester(self, job: dict[str, Any]) -> None:
        """Give the tester the program's wire and its job."""
        assert self._report is not None
        cpu_s = self._limits["wall_ms"] * job["count"] // 1000 + 5
        self.channel.setblocking(True)  # shared with the tester's copy, who waits on it
        self._report.settimeout(_GRACE_S * 10)
        if self._report.recv(1 << 12)[4:] != READY:
            raise Infra("the tester's jail could not be closed")
        self._report.sendall(protocol.pack({**job, "limits": {**self.own_limits, "cpu_s": cpu_s}}))
        self._listening = True
        self.start_test()

    def next_report(self) -> Any:
        """The tester's next report; raises Limited if the program hit a limit meanwhile."""
        while not self._reports:
            if self.process.status is not None:
                self._last_report()
                break
            self._pump(False, bytearray())
        return protocol.loads(self._reports.pop(0))

    def _last_report(self) -> None:
        """The program is dead: the tester's wire is closed as well, so it says so and ends."""
        assert self._report is not None
        deadline = time.monotonic() + _GRACE_S
        self._report.settimeout(_GRACE_S)
        while not self._reports and time.monotonic() < deadline:
            try:
                data = self._report.recv(1 << 16)
            except OSError:
                break
            if not data:
                break
            self._reports += self._report_reader.feed(data)
        if not self._reports:
            raise Ended


def spare_kind(job: dict[str, Any]) -> tuple[int, bool]:
    """What the spare for a job must be like: the size of its files, and whether with a tester."""
    return job["limits"]["tmp_mb"], job["kind"] in ("asserts", "script") and not job["weak"]
