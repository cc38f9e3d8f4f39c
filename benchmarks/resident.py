"""Resident memory of a sandbox's processes, seen from the machine that they run on."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.gold_sets import humaneval
from sandbox import Sandbox
from sandbox.engines import docker as docker_engine

_EVERY = 1000

_Tree = dict[int, list[tuple[int, int]]]
"""For every process its children: when each started, and its number."""


@dataclasses.dataclass(frozen=True)
class Resident:
    """MiB of the client and, over all slots, of the largest supervisor and the largest zygote."""

    client: float
    supervisor: float
    zygote: float

    @staticmethod
    def of(engine: str) -> Resident:
        """Look at this process's own sandbox; between runs or while they are under way."""
        tree = _tree()
        supervisors = _containers() if engine == "docker" else _grandchildren(tree)
        # A supervisor's oldest child is its zygote; a run's processes are the zygote's.
        zygotes = [min(tree[pid])[1] for pid in supervisors if tree.get(pid)]
        return Resident(
            _mib(os.getpid()),
            max(map(_mib, supervisors), default=0.0),
            max(map(_mib, zygotes), default=0.0),
        )


def _mib(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/status") as file:
            found = re.search(r"VmRSS:\s+(\d+) kB", file.read())
    except OSError:  # ended meanwhile
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def _tree() -> _Tree:
    children: _Tree = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append((int(fields[19]), int(name)))
    return children


def _grandchildren(tree: _Tree) -> list[int]:
    """The namespaces engine's: this process starts a launcher, and that the supervisor."""
    launchers = [pid for _, pid in tree.get(os.getpid(), [])]
    return [pid for launcher in launchers for _, pid in tree.get(launcher, [])]


def _containers() -> list[int]:
    """The first processes of this process's containers, on an engine on this machine."""
    client = docker_engine.connect()
    try:
        labels = [docker_engine.LABEL, f"{docker_engine.OWNER}={docker_engine.owner()}"]
        found = client.api.containers(filters={"label": labels})
        return [client.api.inspect_container(each["Id"])["State"]["Pid"] for each in found]
    finally:
        client.close()


def memory(engine: str, runs: int, workers: int) -> dict[str, Any]:
    """Run many programs on one engine and look at its processes every thousand runs."""
    cases = humaneval()

    def jobs() -> Iterator[tuple[str, Any, str]]:
        for index in range(runs):
            case = cases[index % len(cases)]
            yield case.key, case.task, case.code

    seen: list[Resident] = []
    wrong = 0
    began = time.monotonic()
    print(f"{'runs':>8}  {'client MiB':>10}  {'supervisor MiB':>14}  {'zygote MiB':>10}  runs/s")
    with Sandbox(engine, workers=workers) as box:
        for count, (_, verdict) in enumerate(box.run_many(jobs()), 1):
            wrong += not verdict.accepted
            if count % _EVERY == 0 or count == runs:
                now = Resident.of(box.engine)
                seen.append(now)
                rate = count / (time.monotonic() - began)
                texts = f"{now.client:10.1f}  {now.supervisor:14.1f}  {now.zygote:10.1f}"
                print(f"{count:8}  {texts}  {rate:6.0f}", flush=True)
    grown = {
        field.name: round(getattr(seen[-1], field.name) - getattr(seen[0], field.name), 2)
        for field in dataclasses.fields(Resident)
    }
    print(f"false verdicts: {wrong}; MiB grown between the first row and the last: {grown}")
    rows = [dataclasses.asdict(each) for each in seen]
    return {"runs": runs, "false_verdicts": wrong, "grown_mib": grown, "every_1000": rows}
