"""The sandbox: tasks and programs in, verdicts out."""

from __future__ import annotations

import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from sandbox import protocol
from sandbox.engines.base import CONTAINER, CONTAINER_NS, LEVELS, NS, Engine
from sandbox.errors import SandboxError, SlotBroken, TaskError
from sandbox.grade import Place, grade, make_job, plain_verdict, stub, uncrossable
from sandbox.limits import Limits
from sandbox.pool import Lanes, Pool
from sandbox.task import Task
from sandbox.verdict import Outcome, Verdict

K = TypeVar("K")

ENGINES = ("auto", "docker", "namespaces")
CONFIRM_FACTOR = 1.5
_TRIES = 3
# Infrastructure may fail one run in a hundred; so many failures are needed to tell.
_INFRA_MIN, _INFRA_SHARE = 3, 0.01
# Counted in time and in kills, these depend on the neighbours: look again before they become
# labels.
_CONFIRMED = (Outcome.TIME_LIMIT, Outcome.MEMORY_LIMIT)


def open_engine(engine: str, isolation: str | None, memory_mb: int = 512) -> Engine:
    """Return the engine that the names mean; raises SandboxError rather than go a level down."""
    if engine == "auto":
        engine = os.environ.get("ALIGN_SANDBOX_ENGINE") or "auto"
    if engine not in ENGINES:
        raise SandboxError(f"engine {engine!r} is not one of {', '.join(ENGINES)}")
    if isolation is not None and isolation not in LEVELS:
        raise SandboxError(f"isolation {isolation!r} is not one of {', '.join(LEVELS)}")
    if engine == "namespaces":
        return _namespaces(isolation)
    if engine == "auto" and isolation == NS:
        return _namespaces(isolation)
    if isolation == NS:
        raise SandboxError("isolation 'ns' is the namespaces engine's: pass engine='namespaces'")
    from sandbox.engines.docker import DockerEngine

    try:
        return DockerEngine(isolation or CONTAINER_NS, memory_mb)
    except SandboxError as error:
        if engine == "docker" or isolation is not None:
            raise
        raise SandboxError(
            f"{error}. Install or start a Docker engine (scripts/install-engine.sh), or pass"
            " isolation='ns' to run on the embedded namespaces engine, a level lower"
        ) from None


def _namespaces(isolation: str | None) -> Engine:
    from sandbox.engines.namespaces import NamespaceEngine

    if isolation not in (None, NS):
        raise SandboxError(f"the namespaces engine offers isolation 'ns', not {isolation!r}")
    return NamespaceEngine()


def ensure_image(engine: str = "auto", isolation: str | None = None) -> str:
    """Build what programs see as their system where it isn't there yet; returns its name."""
    opened = open_engine(engine, isolation)
    try:
        return opened.image
    finally:
        opened.close()


@dataclasses.dataclass(frozen=True)
class Standing:
    """What a task's own reference says about it: how strongly it is tested, or why it can't be."""

    strength: str = "strong"
    problem: str | None = None


class Sandbox:
    """Runs programs behind a wall and says what happened. Use as a context manager.

    Attributes:
        engine: ``docker`` or ``namespaces``.
        isolation: ``container+ns``, ``container`` or ``ns``.
        image: what programs see as their system.
    """

    def __init__(
        self,
        engine: str = "auto",
        isolation: str | None = None,
        workers: int = 2,
        memory_mb: int = 512,
    ) -> None:
        """Open the engine and start the first slot.

        Args:
            engine: ``auto`` takes ALIGN_SANDBOX_ENGINE, else a Docker engine.
            isolation: names the level; needed to go below the engine's best.
            workers: programs that run at the same time.
            memory_mb: what slots start with; a task that asks for another size gets it.

        Raises:
            SandboxError: no engine, or a wall that doesn't hold here, with what to do.
        """
        if workers < 1:
            raise SandboxError(f"workers: {workers} is not above zero")
        self.workers = workers
        self._engine = open_engine(engine, isolation, memory_mb)
        self.engine, self.isolation, self.image = (
            self._engine.name,
            self._engine.isolation,
            self._engine.image,
        )
        self._place = Place(self.engine, self.isolation, self.image)
        self._pool = Pool(self._engine, workers)
        self._lanes = Lanes()
        self._lock = threading.Lock()
        self._standings: dict[str, Standing] = {}
        self._judging: dict[str, threading.Lock] = {}
        self._runs = self._infra = 0
        try:
            self._prove()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every slot and container, running ones too."""
        self._pool.close()
        self._engine.close()

    def _prove(self) -> None:
        """Run one program, so that a level that doesn't hold here is an error and not a verdict."""
        from sandbox.task import parse_task

        cases = [{"args": [2], "expected": 3}]
        row = {"task_id": "probe", "entry_point": "f", "tests": {"kind": "calls", "cases": cases}}
        probe = parse_task(row)
        slot = self._pool.get()
        try:
            reply = slot.call(make_job(probe, "def f(x):\n    return x + 1\n", probe.limits))
            verdict = grade(probe, "", reply, probe.limits, self._place, "strong")
        except (SlotBroken, protocol.ProtocolError) as error:
            self._pool.destroy(slot)
            lower = (
                " Passing isolation='container' goes one level down."
                if self.engine == "docker"
                else ""
            )
            raise SandboxError(
                f"isolation {self.isolation!r} does not hold on the {self.engine} engine:"
                f" {error}.{lower}"
            ) from None
        self._give_back(slot)
        if not verdict.accepted:
            raise SandboxError(
                f"the {self.engine} engine judged a right program {verdict.outcome}:"
                f" {verdict.detail}"
            )

    # ---------------------------------------------------------------------------------- runs

    def run(self, task: Task, code: str | None) -> Verdict:
        """Run one program against one task's tests.

        Args:
            task: a task with tests.
            code: the whole program; None or blank where none was found in a sample.

        Raises:
            TaskError: the task has no tests.
            SandboxError: no slot can be started, or infrastructure fails too often.
        """
        if task.tests is None:
            raise TaskError(f"task {task.task_id} has no tests: it can be judged, not executed")
        if code is None or not code.strip():
            return plain_verdict(Outcome.NO_CODE, task, code, self._place, "no code")
        try:
            standing = self.standing(task)
        except _InfraFault as fault:
            return self._count(
                plain_verdict(Outcome.INFRA_ERROR, task, code, self._place, str(fault))
            )
        if standing.problem is not None:
            return plain_verdict(
                Outcome.INVALID_TASK, task, code, self._place, standing.problem, standing.strength
            )
        try:
            verdict = self._confirmed(task, code, standing.strength)
        except _InfraFault as fault:
            verdict = plain_verdict(
                Outcome.INFRA_ERROR, task, code, self._place, str(fault), standing.strength
            )
        return self._count(verdict)

    def _count(self, verdict: Verdict) -> Verdict:
        with self._lock:
            self._runs += 1
            self._infra += verdict.outcome is Outcome.INFRA_ERROR
            runs, infra = self._runs, self._infra
        if infra >= _INFRA_MIN and infra > runs * _INFRA_SHARE:
            raise SandboxError(
                f"{infra} of {runs} runs failed for reasons of the sandbox's own, more than 1%;"
                f" the last: {verdict.detail or 'earlier'}. Run `python -m sandbox doctor`"
            )
        return verdict

    def _confirmed(self, task: Task, code: str, strength: str) -> Verdict:
        with self._lanes.shared():
            verdict, _ = self._once(task, code, task.limits, strength)
        if not any(test.outcome in _CONFIRMED for test in verdict.tests):
            return verdict
        with self._lanes.alone():
            again, _ = self._once(task, code, task.limits.scaled(CONFIRM_FACTOR), strength)
        if again.outcome in _CONFIRMED:
            return verdict
        return dataclasses.replace(again, limits=verdict.limits)

    def _once(self, task: Task, code: str, limits: Limits, strength: str) -> tuple[Verdict, bool]:
        """Run on a slot, or another if it breaks; also says whether a value could not cross."""
        job = make_job(task, code, limits, weak=strength == "weak")
        fault = ""
        for _ in range(_TRIES):
            slot = self._pool.get()
            try:
                reply = slot.call(job)
                verdict = grade(task, code, reply, limits, self._place, strength)
            except (SlotBroken, protocol.ProtocolError) as error:
                self._pool.destroy(slot)
                fault = str(error)
                continue
            except BaseException:
                self._pool.destroy(slot)
                raise
            self._give_back(slot)
            return verdict, uncrossable(reply)
        raise _InfraFault(f"{_TRIES} slots broke; the last: {fault}")

    def _give_back(self, slot: Any) -> None:
        if self.isolation == CONTAINER:
            self._pool.destroy(
                slot
            )  # at this level the container itself is what a run has to itself
        else:
            self._pool.put(slot)

    # ------------------------------------------------------------------------------- standing

    def standing(self, task: Task) -> Standing:
        """Return how strongly a task is tested, from one run of its reference, kept."""
        assert task.tests is not None
        key = "/".join(
            (task.tests.sha, task.entry_point or "", str(task.limits), str(task.reference))
        )
        with self._lock:
            lock = self._judging.setdefault(key, threading.Lock())
        with lock:
            if key not in self._standings:
                self._standings[key] = self._judge_task(task)
            return self._standings[key]

    def _judge_task(self, task: Task) -> Standing:
        strength = "strong"
        if task.reference is not None:
            with self._lanes.shared():
                verdict, cannot_cross = self._once(task, task.reference, task.limits, "strong")
                if not verdict.accepted and cannot_cross:
                    strength = "weak"
                    verdict, _ = self._once(task, task.reference, task.limits, "weak")
            if any(test.outcome in _CONFIRMED for test in verdict.tests):
                verdict = self._confirmed(task, task.reference, strength)
            if not verdict.accepted:
                return Standing(
                    strength, f"the reference fails: {verdict.outcome}: {verdict.detail}"
                )
        with self._lanes.shared():
            verdict, _ = self._once(task, stub(task), task.limits, strength)
        if verdict.accepted:
            return Standing(strength, "the tests accept a program that always raises")
        return Standing(strength)

    # ---------------------------------------------------------------------------------- many

    def run_many(self, jobs: Iterable[tuple[K, Task, str | None]]) -> Iterator[tuple[K, Verdict]]:
        """Run many programs, as many at once as there are workers.

        Args:
            jobs: key, task and program of each; consumed only as fast as runs finish.

        Yields:
            Key and verdict, in order of completion.

        Raises:
            SandboxError: as ``run``. What ``jobs`` raises is raised here.
        """
        batch = _Batch(jobs, self.run, self.workers)
        try:
            yield from batch.results()
        finally:
            batch.stop()


class _InfraFault(Exception):
    """A run that no slot could finish."""


class _Batch:
    """Worker threads between a lazy iterable and a bounded queue of results."""

    def __init__(
        self,
        jobs: Iterable[tuple[Any, Task, str | None]],
        run: Callable[[Task, str | None], Verdict],
        workers: int,
    ) -> None:
        self._jobs = iter(jobs)
        self._run = run
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._done: queue.Queue[tuple[str, Any, Any]] = queue.Queue(maxsize=2 * workers)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        try:
            while not self._stopping.is_set():
                with self._lock:
                    job = next(self._jobs, None)
                if job is None:
                    break
                key, task, code = job
                self._put(("verdict", key, self._run(task, code)))
            self._put(("end", None, None))
        except BaseException as error:
            self._put(("error", None, error))

    def _put(self, item: tuple[str, Any, Any]) -> None:
        while not self._stopping.is_set():
            try:
                self._done.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def results(self) -> Iterator[tuple[Any, Verdict]]:
        """Yield until every worker has ended; raise what a worker raised."""
        left = len(self._threads)
        while left:
            kind, key, value = self._done.get()
            if kind == "error":
                raise value
            if kind == "end":
                left -= 1
            else:
                yield key, value

    def stop(self) -> None:
        """Take no more jobs; runs under way end by themselves or with their slots."""
        self._stopping.set()
