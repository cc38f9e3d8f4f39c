"""PID 1 of a slot: takes jobs from the host on stdin, answers on stdout, one at a time.

It holds the tests, so nothing is ever forked from it after the start. At the end of its input it
exits, and as the first process of its pid namespace it takes everything with it.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any

from sandbox import protocol, values
from sandbox.guest import jail, zygote
from sandbox.guest.process import Ended, Forker, Infra, Limited
from sandbox.guest.session import Session, spare_kind
from sandbox.guest.spare import Forkers, Spares

_BEAT_S = 1.0
_OOM_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
_DETAIL = 600
_FLUSH_BYTES = 1 << 20


def oom_kills(events: int | None) -> int | None:
    """How many of this cgroup the kernel killed for memory; None where that can't be read.

    ``events`` is the file's descriptor where the launcher left one, else it is in its usual place.
    """
    for path in _OOM_FILES if events is None else (f"/proc/self/fd/{events}",):
        try:
            with open(path) as file:
                for line in file:
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        except OSError:
            continue
    return None


class Host:
    """The wire to the host."""

    def __init__(self) -> None:
        self._reader = protocol.FrameReader()
        self._bodies: list[bytes] = []
        self._last = time.monotonic()
        self._out = os.dup(1)
        self._in = os.dup(0)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)

    def receive(self) -> Any:
        """Return the next message; ends the process when the host is gone."""
        while not self._bodies:
            self._take()
        return protocol.loads(self._bodies.pop(0))

    def _take(self) -> None:
        data = os.read(self._in, 1 << 20)
        if not data:
            os._exit(0)
        self._bodies += self._reader.feed(data)

    def send(self, message: Any) -> None:
        """Write one frame."""
        view = memoryview(protocol.pack(message))
        while view:
            view = view[os.write(self._out, view) :]
        self._last = time.monotonic()

    def beat(self) -> None:
        """While a program runs: say that we live, and notice if the host doesn't."""
        if time.monotonic() - self._last > _BEAT_S:
            self.send({"op": "alive"})
        poller = select.poll()
        poller.register(self._in, select.POLLIN)
        if poller.poll(0):
            self._take()


class Run:
    """One job: its tests in as many sessions as the program's deaths make necessary."""

    def __init__(
        self,
        job: dict[str, Any],
        forkers: Forkers,
        spares: Spares,
        host: Host,
        settings: dict[str, Any],
    ) -> None:
        self._job = job
        self._forkers = forkers
        self._spares = spares
        self._host = host
        self._nested: bool = settings["nested"]
        self._events: int | None = settings["events"]
        self._results: list[dict[str, Any]] = []
        self._unsent: list[dict[str, Any]] = []
        self._unsent_bytes = 0
        self._session: Session | None = None
        self._kills = 0
        self._cpu_ms = 0.0
        self._peak = 0
        self._outputs: list[dict[str, Any]] = []
        self._count = job["count"]

    def perform(self) -> dict[str, Any]:
        """Run every test once and return the reply to the host."""
        began = time.monotonic()
        while len(self._results) < self._count:
            if self._kills >= self._job["max_kills"]:
                last = self._results[-1]["status"]
                self._record({"status": last, "detail": "not run: the tests before it were killed"})
                continue
            before = len(self._results)
            self._one_session()
            if len(self._results) == before:
                raise Infra("a session ended without a result")
        shown = next(
            (o for o in self._outputs if o["stdout"]["bytes"] or o["stderr"]["bytes"]), None
        )
        return {
            "op": "done",
            "tests": self._unsent,
            "cpu_ms": round(self._cpu_ms, 3),
            "wall_ms": round((time.monotonic() - began) * 1000, 3),
            "peak_bytes": self._peak,
            **(shown or (self._outputs[0] if self._outputs else {})),
        }

    def _record(self, result: dict[str, Any], size: int = 0) -> None:
        self._results.append({"status": result["status"]})
        self._unsent.append(result)
        self._unsent_bytes += size
        if self._unsent_bytes > _FLUSH_BYTES:  # together they may be more than one frame holds
            self._host.send({"op": "tests", "id": self._job["id"], "tests": self._unsent})
            self._unsent, self._unsent_bytes = [], 0

    def _one_session(self) -> None:
        job = self._job
        start = len(self._results)
        stdio = job["kind"] == "stdio"
        stdin = job["stdin"][start].encode("utf-8", "surrogatepass") if stdio else b""
        oom_before = oom_kills(self._events)
        self.close()
        self._session = session = Session(
            self._forkers, self._spares, job, self._count - start, stdin, self._nested
        )
        if stdio and start + 1 < self._count:
            self._spares.prepare(*spare_kind(job))
        session.heartbeat = self._host.beat
        try:
            session.ready()
            session.start_test()
            self._tests_of(session)
        except Limited as limit:
            self._kills += 1
            self._finish(session, {"status": limit.status, "detail": str(limit)})
        except Ended:
            self._finish(session, self._death(session, oom_before))
        except protocol.ProtocolError as error:
            session.process.kill()
            self._finish(session, {"status": "tampered", "detail": str(error)[:_DETAIL]})
        session.stop()
        self._cpu_ms += session.cpu_ms
        self._peak = max(self._peak, session.peak_bytes, session.process.peak_bytes)
        self._outputs.append(
            {
                name: {"bytes": stream.bytes, "head": stream.head(), "tail": stream.tail()}
                for name, stream in (("stdout", session.stdout), ("stderr", session.stderr))
            }
        )

    def close(self) -> None:
        """End what is left of the last session; after the reply, as it takes a while."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _finish(self, session: Session, result: dict[str, Any], size: int = 0) -> None:
        cpu, wall = session.spent()
        result["cpu_ms"], result["wall_ms"] = round(cpu, 3), round(wall, 3)
        self._record(result, size)
        session.start_test()

    def _death(self, session: Session, oom_before: int | None) -> dict[str, Any]:
        session.process.reap()
        status = session.process.status or 0
        now = oom_kills(self._events)
        if oom_before is not None and now is not None and now > oom_before:
            self._kills += 1
            return {"status": "memory_limit", "detail": "the kernel killed it for memory"}
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number == signal.SIGXCPU or (number == signal.SIGKILL and self._over_cpu(session)):
                self._kills += 1
                return {"status": "time_limit", "detail": "used up its CPU time"}
            self._kills += number == signal.SIGKILL
            return {"status": "died", "detail": f"killed by signal {number}"}
        return {"status": "died", "detail": f"exited with status {os.WEXITSTATUS(status)}"}

    def _over_cpu(self, session: Session) -> bool:
        return bool(session.process.ended_cpu_s * 1000 > self._job["limits"]["cpu_ms"])

    # ---------------------------------------------------------------------------- test kinds

    def _tests_of(self, session: Session) -> None:
        job = self._job
        load = protocol.pack(
            {
                "code": job["code"],
                "main": job["kind"] == "stdio",
                "wanted": job["wanted"],
                "limits": session.own_limits,
            }
        )
        loaded = protocol.loads(session.next_frame(load))
        if type(loaded) is not dict or type(loaded.get("loaded")) is not bool:
            raise protocol.ProtocolError("the program's first frame is not the driver's")
        if loaded["loaded"]:
            _check_names(loaded.get("names"), job["wanted"])
        if not loaded["loaded"]:
            self._failed_load(session, loaded)
        elif job["kind"] == "stdio":
            self._stdio(session)
        elif job["kind"] == "calls":
            self._calls(session)
        elif job["weak"]:
            self._weak(session)
        else:
            self._tester(session, loaded)

    def _failed_load(self, session: Session, loaded: dict[str, Any]) -> None:
        status = "compile_error" if loaded.get("stage") == "compile" else "raised"
        error = loaded.get("error")
        detail, name = _say_error(error)
        for _ in range(len(self._results), self._count):
            self._finish(session, {"status": status, "detail": detail, "error": name})

    def _stdio(self, session: Session) -> None:
        session.run_to_end()
        status = session.process.status
        bodies = session.take_frames()
        if len(bodies) > 1:
            raise protocol.ProtocolError("frames that nobody asked for")
        frames = [protocol.loads(body) for body in bodies]
        if status != 0:
            if frames and type(frames[0]) is dict and "error" in frames[0]:
                detail, name = _say_error(frames[0]["error"])
                self._finish(session, {"status": "raised", "detail": detail, "error": name})
                return
            raise Ended
        if session.stdout.bytes + session.stderr.bytes > self._job["limits"]["output_bytes"]:
            raise Limited("output_limit", "wrote more than it may")
        text = session.stdout.kept.decode("utf-8", "surrogateescape")
        try:
            value = values.encode(text)
        except values.Uncrossable as error:
            raise Limited("output_limit", str(error)) from None
        self._finish(session, {"status": "output", "value": value, "detail": ""}, 6 * len(text))

    def _calls(self, session: Session) -> None:
        cases = self._job["cases"]
        for index in range(len(self._results), self._count):
            request = {
                "op": "call",
                "plain": True,
                "id": index + 1,
                "name": self._job["entry_point"],
                "args": cases[index]["args"],
                "kwargs": cases[index]["kwargs"],
            }
            session.start_test()
            body = session.next_frame(protocol.pack(request))
            reply = protocol.loads(body)
            if type(reply) is not dict or reply.get("id") != index + 1:
                raise protocol.ProtocolError("a reply to another call")
            if "uncrossable" in reply:
                detail = str(reply["uncrossable"])[:_DETAIL]
                self._finish(session, {"status": "uncrossable", "detail": detail})
            elif "error" in reply:
                detail, name = _say_error(reply["error"])
                self._finish(session, {"status": "raised", "detail": detail, "error": name})
            elif "value" in reply:
                result = {"status": "value", "value": reply["value"], "detail": ""}
                self._finish(session, result, len(body))
            else:
                raise protocol.ProtocolError("a reply without a value")

    def _tester_job(self, names: Any) -> dict[str, Any]:
        job = self._job
        keys = ("kind", "entry_point", "code_of_tests", "setup", "asserts", "helpers")
        made = {key: job[key] for key in keys}
        made["code"] = made.pop("code_of_tests")
        made.update(start=len(self._results), count=self._count, names=names)
        return made

    def _tester(self, session: Session, loaded: dict[str, Any]) -> None:
        session.start_tester(self._tester_job(loaded.get("names")))
        while len(self._results) < self._count:
            report = session.next_report()
            if report["status"] == "died":
                session.run_to_end()
                raise Ended
            self._take_report(session, report)

    def _weak(self, session: Session) -> None:
        frame = protocol.pack({"op": "weak", **self._tester_job([])})
        while len(self._results) < self._count:
            report = protocol.loads(session.next_frame(frame))
            frame = b""
            expected = len(self._results)
            if type(report) is not dict or report.get("test") != expected:
                raise protocol.ProtocolError("a report of another test")
            self._take_report(session, report)

    def _take_report(self, session: Session, report: dict[str, Any]) -> None:
        known = ("passed", "failed", "raised", "uncrossable", "tampered")
        if report.get("status") not in known or report.get("test") != len(self._results):
            raise protocol.ProtocolError("a report that no tester writes")
        self._finish(
            session,
            {
                "status": report["status"],
                "detail": str(report.get("detail", ""))[:_DETAIL],
                "error": str(report.get("error", ""))[:200],
            },
        )


def _check_names(names: Any, wanted: list[str]) -> None:
    """Refuse names that no driver reports: ``__builtins__`` would be the tester's own."""
    if type(names) is not list:
        raise protocol.ProtocolError("names that are no list")
    left = set(wanted)
    for item in names:
        if type(item) is not list or len(item) != 3 or type(item[0]) is not str:
            raise protocol.ProtocolError("a malformed name")
        if item[0] not in left:
            raise protocol.ProtocolError("a name that nobody asked for")
        left.discard(item[0])


def _say_error(error: Any) -> tuple[str, str]:
    if type(error) is not dict:
        raise protocol.ProtocolError("an error that is no object")
    name = str(error.get("name"))[:200]
    line = error.get("line")
    where = f" (line {line})" if type(line) is int else ""
    return f"{name}: {error.get('message')}"[:_DETAIL] + where, name


def _start(nested: bool) -> Forkers:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    testers, of_testers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        testers.close()
        try:
            zygote.main(theirs, of_testers, nested)
        finally:
            os._exit(99)
    theirs.close()
    of_testers.close()
    first = Forker(ours, pid)
    return Forkers(first, Forker(testers, first.collect()[0]))


def main() -> None:
    """Serve the host until it closes our input; never returns."""
    try:
        # Descriptors that travel are counted for all processes of our user together, whatever slot
        # they belong to, and refused to who may have fewer open.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        host = Host()
        settings = host.receive()
        # Before the first test arrives: what is forked now has seen nothing.
        forkers = _start(settings["nested"])
        jail.set_dumpable(False)
        spares = Spares(forkers, ahead=settings["nested"])
        host.send({"op": "hello", "version": protocol.VERSION, "python": sys.version.split()[0]})
        while True:
            job = host.receive()
            run = Run(job, forkers, spares, host, settings)
            try:
                reply = run.perform()
            except Infra as error:
                reply = {"op": "infra", "detail": str(error)[:_DETAIL]}
            reply["id"] = job["id"]
            host.send(reply)
            run.close()
            spares.prepare(*spare_kind(job))
    except BrokenPipeError:
        os._exit(0)
    except BaseException as error:
        os.write(2, f"supervisor: {type(error).__name__}: {error}\n".encode())
        os._exit(1)
