"""Kill slots, the client and the engine under ten thousand runs; exit 1 on any wrong or lost label.

    python -m benchmarks.chaos [--runs 10000] [--restart-engine COMMAND]

A client in a process of its own runs programs whose outcome is known on the Docker engine, and
appends each verdict to a file. Every two seconds one of its containers is killed. A third of the
way through the client itself is killed, after two thirds the engine is restarted by the command,
which must bring it back at the same address; for an engine of scripts/install-engine.sh:

    --restart-engine 'scripts/install-engine.sh stop DIR && scripts/install-engine.sh DIR'

A client that ends early is started again and goes on with what the file doesn't have.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import requests.exceptions

# A script's own folder comes first, and there `sandbox` is another script.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import print_machine, print_table
from sandbox import Outcome, Sandbox, SandboxError, Task, parse_task
from sandbox.engines import docker as docker_engine

TASKS = 300
KILL_EVERY_S = 2.0
MAX_STARTS = 50
_FAULTS = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)
_EXPECTED = (Outcome.ACCEPTED, Outcome.WRONG_ANSWER, Outcome.RUNTIME_ERROR)


def make_task(number: int) -> Task:
    """One of TASKS small tasks, of three kinds."""
    table = [(n, n * number + 7) for n in range(4)]
    tests: dict[str, Any]
    if number % 3 == 0:
        tests = {"kind": "calls", "cases": [{"args": [n], "expected": out} for n, out in table]}
    elif number % 3 == 1:
        tests = {"kind": "asserts", "asserts": [f"assert f({n}) == {out}" for n, out in table]}
    else:
        lines = [f"    assert candidate({n}) == {out}\n" for n, out in table]
        tests = {"kind": "script", "code": "def check(candidate):\n" + "".join(lines)}
    reference = f"def f(n):\n    return n * {number} + 7\n"
    row = {"task_id": f"chaos:{number}", "entry_point": "f", "tests": tests}
    return parse_task({**row, "reference": reference})


def make_program(run: int) -> str:
    """A program whose outcome is ``expected(run)``; one in ten sleeps, to be killed in its run."""
    number = run % TASKS
    body = {
        Outcome.ACCEPTED: f"return n * {number} + 7",
        Outcome.WRONG_ANSWER: f"return n * {number} + (7 if n < 3 else 8)",
        Outcome.RUNTIME_ERROR: "raise KeyError(n)",
    }[expected(run)]
    nap = "import time\ntime.sleep(0.2)\n" if run % 10 == 0 else ""
    return f"# run {run}\n{nap}def f(n):\n    {body}\n"


def expected(run: int) -> Outcome:
    """What every right verdict about the run says."""
    return _EXPECTED[run // TASKS % len(_EXPECTED)]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the file: a run, and what the client was told about it."""

    run: int
    outcome: Outcome


def read(path: Path) -> list[Row]:
    """The verdicts so far; a line is written in one piece, so there are no halves."""
    pairs = [json.loads(line) for line in path.read_text().splitlines()]
    return [Row(run, Outcome(outcome)) for run, outcome in pairs]


def client(path: Path, runs: int) -> None:
    """Run what the file has no verdict for and append the verdicts; an infra_error is none."""
    done = {row.run for row in read(path) if row.outcome is not Outcome.INFRA_ERROR}
    tasks = [make_task(number) for number in range(TASKS)]
    jobs = ((run, tasks[run % TASKS], make_program(run)) for run in range(runs) if run not in done)
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    with Sandbox("docker", workers=2) as box:
        for run, verdict in box.run_many(jobs):
            os.write(file, (json.dumps([run, verdict.outcome]) + "\n").encode())


@dataclasses.dataclass
class Chaos:
    """The parent: starts clients, does harm, and counts what it did."""

    path: Path
    runs: int
    restart: str | None
    starts: int = 0
    kills: int = 0
    client_kills: int = 0
    restarts: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)
    clients: set[str] = dataclasses.field(default_factory=set)

    def run(self) -> None:
        """Start clients until every run has its verdict."""
        while len(self._done()) < self.runs and self.starts < MAX_STARTS and not self.faults:
            self.starts += 1
            with self._client() as child:
                self._harm(child)
            if child.returncode > 0:
                time.sleep(2)  # most likely the engine is on its way back

    def _done(self) -> set[int]:
        return {row.run for row in read(self.path) if row.outcome is not Outcome.INFRA_ERROR}

    @contextlib.contextmanager
    def _client(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "benchmarks.chaos", "--client", str(self.path)]
        root = Path(__file__).resolve().parents[1]
        child = subprocess.Popen([*command, "--runs", str(self.runs)], cwd=root)
        self.clients.add(str(child.pid))
        try:
            yield child
        finally:
            child.kill()
            child.wait()

    def _harm(self, child: subprocess.Popen[bytes]) -> None:
        next_kill = time.monotonic() + KILL_EVERY_S
        while child.poll() is None:
            time.sleep(0.1)
            if time.monotonic() < next_kill:
                continue
            next_kill = time.monotonic() + KILL_EVERY_S
            done = len(self._done())
            if not self.client_kills and done > self.runs / 3:
                child.send_signal(signal.SIGKILL)
                self.client_kills += 1
            elif self.restart and not self.restarts and done > self.runs * 2 / 3:
                self.restarts += 1
                if subprocess.run(self.restart, shell=True, stdout=sys.stderr).returncode:
                    self.faults.append(f"{self.restart!r} failed")
            else:
                self._kill_slot(child.pid)

    def _kill_slot(self, pid: int) -> None:
        """Kill one container of the client's at random; there may be none at the moment."""
        with contextlib.suppress(SandboxError, *_FAULTS):
            engine = docker_engine.connect(timeout=10)
            try:
                mine = [name for name, client in _slots(engine) if client == str(pid)]
                if mine:
                    engine.api.kill(random.choice(mine))
                    self.kills += 1
            finally:
                engine.close()

    def strays(self) -> int:
        """Containers of our clients that are left once the engine has been cleaned up again."""
        engine = docker_engine.connect()
        try:
            docker_engine.reap(engine)
            time.sleep(1)
            return sum(client in self.clients for _, client in _slots(engine))
        finally:
            engine.close()


def _slots(engine: Any) -> list[tuple[str, str]]:
    """The id of every slot on the engine, and the process number of the client that owns it."""
    slots = []
    for each in engine.api.containers(all=True, filters={"label": docker_engine.LABEL}):
        owner = each["Labels"].get(docker_engine.OWNER, "").split("/")
        slots.append((each["Id"], owner[2] if len(owner) > 2 else ""))
    return slots


def check(chaos: Chaos, seconds: float) -> bool:
    """Print the counts; returns whether nothing was lost, doubled or wrong."""
    rows = read(chaos.path)
    infra = sum(row.outcome is Outcome.INFRA_ERROR for row in rows)
    labels = [row for row in rows if row.outcome is not Outcome.INFRA_ERROR]
    counts = Counter(row.run for row in labels)
    wrong = [row for row in labels if row.outcome is not expected(row.run)]
    # Each of these must be nought.
    bad = {
        "false verdicts": len(wrong),
        "runs lost": sum(run not in counts for run in range(chaos.runs)),
        "runs with two verdicts": sum(count > 1 for count in counts.values()),
        "stray containers": chaos.strays(),
        "faults of this benchmark": len(chaos.faults),
    }
    told = {
        "runs": chaos.runs,
        **dict(Counter(str(row.outcome) for row in labels)),
        "infra_error, run again": infra,
        "containers killed": chaos.kills,
        "clients killed": chaos.client_kills,
        "engine restarts": chaos.restarts,
        "client starts": chaos.starts,
        "seconds": round(seconds, 1),
    }
    print_machine()
    print_table(("what", "count"), [*told.items(), *bad.items()])
    for text in [*chaos.faults, *map(str, wrong[:20])]:
        print(text)
    if not chaos.restart:
        print("the engine was not restarted: --restart-engine was not given")
    # A test that did no harm proves nothing.
    harmed = chaos.kills and chaos.client_kills and (chaos.restarts or not chaos.restart)
    if not harmed:
        print("not enough harm was done: give more --runs")
    return not any(bad.values()) and bool(harmed)


def main() -> int:
    """Do the harm and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--restart-engine", metavar="COMMAND", help="stops and starts the engine")
    parser.add_argument("--client", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        try:
            client(options.client, options.runs)
        except SandboxError as error:
            print(f"client: {error}", file=sys.stderr)
            return 1
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "verdicts.jsonl"
        path.touch()
        chaos = Chaos(path, options.runs, options.restart_engine)
        chaos.run()
        return 0 if check(chaos, time.monotonic() - began) else 1


if __name__ == "__main__":
    sys.exit(main())
