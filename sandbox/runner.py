"""The sandbox: tasks and programs in, verdicts out."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from sandbox import protocol
from sandbox.batch import Batch, run_all
from sandbox.calls import Called, calls_job, keep_call, read_calls
from sandbox.engines.base import CONTAINER
from sandbox.errors import SandboxError, SlotBroken, TaskError
from sandbox.grade import Place, grade, judged, make_job, plain_verdict, stub, uncrossable
from sandbox.limits import Limits
from sandbox.metrics import Metrics
from sandbox.opening import open_engine
from sandbox.pool import Lanes, Pool
from sandbox.task import Task, parse_task
from sandbox.verdict import KILLED, Outcome, TestResult, Verdict

K = TypeVar("K")
R = TypeVar("R")

CONFIRM_FACTOR = 1.5
_TRIES = 3
# Infrastructure may fail one run in a hundred; so many failures are needed to tell.
_INFRA_MIN, _INFRA_SHARE = 3, 0.01
# Counted in time and in kills, these depend on the neighbours: look again before they become
# labels.
_CONFIRMED = (Outcome.TIME_LIMIT, Outcome.MEMORY_LIMIT)


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
        metrics: counts and times; ``metrics.text()`` is what Prometheus reads.
    """

    def __init__(
        self,
        engine: str = "auto",
        isolation: str | None = None,
        workers: int = 2,
        memory_mb: int = 512,
        image: str | None = None,
        runtime: str | None = None,
    ) -> None:
        """Open the engine and start the first slot.

        Args:
            engine: ``auto`` takes ALIGN_SANDBOX_ENGINE, else a Docker engine.
            isolation: names the level; needed to go below the engine's best.
            workers: programs that run at the same time.
            memory_mb: what slots start with; a task that asks for another size gets it.
            image: ``python`` (the default) or ``python-data``, which has numpy and pandas.
            runtime: the Docker engine's runtime of containers, such as ``runsc``.

        Raises:
            SandboxError: no engine, or a wall that doesn't hold here, with what to do.
        """
        if workers < 1:
            raise SandboxError(f"workers: {workers} is not above zero")
        self.workers = workers
        self._engine = open_engine(engine, isolation, memory_mb, image, runtime)
        self.engine, self.isolation, self.image = (
            self._engine.name,
            self._engine.isolation,
            self._engine.image,
        )
        self._place = Place(self.engine, self.isolation, self.image, self._engine.memory_by)
        self._pool = Pool(self._engine, workers)
        self._lanes = Lanes()
        self._lock = threading.Lock()
        self._standings: dict[tuple[object, ...], Standing] = {}
        self._judging: dict[tuple[object, ...], threading.Lock] = {}
        self._flights: dict[tuple[object, ...], Future[Verdict]] = {}
        self._runs = self._infra = 0
        self.metrics = Metrics()
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

    def run(self, task: Task, code: str | None, repeat: int = 1) -> Verdict:
        """Run one program against one task's tests; safe to call from many threads.

        A call that finds an equal one under way takes its verdict.

        Args:
            task: a task with tests.
            code: the whole program; None or blank where none was found in a sample.
            repeat: how often to run it; runs that disagree make it ``flaky``.

        Raises:
            TaskError: the task has no tests.
            SandboxError: no slot can be started, or infrastructure fails too often.
        """
        if task.tests is None:
            raise TaskError(f"task {task.task_id} has no tests: it can be judged, not executed")
        key = (*_task_key(task), code, repeat)
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                mine = self._flights[key] = Future()
        if flight is not None:
            self.metrics.shared()
            verdict = flight.result()
            self.metrics.verdict(verdict.outcome)  # a fault that many share is one fault
            return verdict
        try:
            mine.set_result(self._repeated(task, code, repeat))
        except BaseException as error:
            mine.set_exception(error)
        finally:
            with self._lock:
                del self._flights[key]
        verdict = mine.result()
        self.metrics.verdict(verdict.outcome)
        self._count(verdict.outcome is Outcome.INFRA_ERROR, verdict.detail)
        return verdict

    def _repeated(self, task: Task, code: str | None, repeat: int) -> Verdict:
        first = self._verdict(task, code)
        if first.outcome is Outcome.INFRA_ERROR:
            return first
        seen = {_said(first)}
        times = list(first.run_cpu_ms or [first.cpu_ms])
        while len(times) < repeat:
            again = self._verdict(task, code)
            if again.outcome is Outcome.INFRA_ERROR:
                return again
            seen.add(_said(again))
            times += again.run_cpu_ms or [again.cpu_ms]
        if len(seen) == 1:
            return dataclasses.replace(first, run_cpu_ms=tuple(times))
        detail = f"{repeat} runs disagree: {', '.join(sorted(seen))}"
        return dataclasses.replace(first, outcome=Outcome.FLAKY, detail=detail)

    def _verdict(self, task: Task, code: str | None) -> Verdict:
        if code is None or not code.strip():
            return plain_verdict(Outcome.NO_CODE, task, code, self._place, "no code")
        plain = partial(plain_verdict, task=task, code=code, place=self._place)
        strength = "strong"
        try:
            standing = self.standing(task)
            strength = standing.strength
            if standing.problem is not None:
                return plain(Outcome.INVALID_TASK, detail=standing.problem, strength=strength)
            return self._confirmed(task, code, strength)
        except _InfraFault as fault:
            return plain(Outcome.INFRA_ERROR, detail=str(fault), strength=strength)

    def _count(self, failed: bool, detail: str) -> None:
        """Count a run, and whether infrastructure failed it; raises SandboxError for too many."""
        with self._lock:
            self._runs += 1
            self._infra += failed
            runs, infra = self._runs, self._infra
        if infra >= _INFRA_MIN and infra > runs * _INFRA_SHARE:
            raise SandboxError(
                f"{infra} of {runs} runs failed for reasons of the sandbox's own, more than 1%;"
                f" the last: {detail or 'earlier'}. Run `python -m sandbox doctor`"
            )

    def _confirmed(self, task: Task, code: str, strength: str) -> Verdict:
        with self._lanes.shared():
            verdict, _ = self._once(task, code, task.limits, strength)
        if not any(map(_is_confirmed, verdict.tests)):
            return verdict
        with self._lanes.alone():
            again, _ = self._once(task, code, task.limits.scaled(CONFIRM_FACTOR), strength)
        if again.outcome is verdict.outcome and verdict.outcome in _CONFIRMED:
            # Two runs that say the same: whoever asks for a repeat has it, and these take longest.
            return dataclasses.replace(verdict, run_cpu_ms=(verdict.cpu_ms, again.cpu_ms))
        if again.outcome in _CONFIRMED and verdict.outcome in _CONFIRMED:
            return verdict
        return dataclasses.replace(again, limits=verdict.limits)

    def _once(self, task: Task, code: str, limits: Limits, strength: str) -> tuple[Verdict, bool]:
        """Run on a slot, or another if it breaks; also says whether a value could not cross."""
        job = make_job(task, code, limits, weak=strength == "weak")

        def read(reply: dict[str, Any]) -> tuple[Verdict, bool]:
            verdict = grade(task, code, reply, limits, self._place, strength)
            return verdict, uncrossable(reply)

        return self._reply(job, partial(judged, task), read)

    def _reply(
        self,
        job: dict[str, Any],
        keep: Callable[[int, Any], Any],
        read: Callable[[dict[str, Any]], R],
    ) -> R:
        """Return what ``read`` makes of a slot's reply to a job; a slot that breaks is replaced."""
        fault = ""
        for turn in range(_TRIES):
            asked = time.monotonic()
            slot = self._pool.get(fresh=turn > 0)
            began = time.monotonic()
            try:
                reply = slot.call(job, keep)
                ended = time.monotonic()
                found = read(reply)
            except (SlotBroken, protocol.ProtocolError) as error:
                self._pool.destroy(slot)
                self.metrics.broke()
                fault = str(error)
                continue
            except BaseException:
                self._pool.destroy(slot)
                raise
            self._give_back(slot)
            tests_s = sum(float(report.get("wall_ms", 0.0)) for report in reply["tests"]) / 1000
            self.metrics.ran(began - asked, ended - began, tests_s)
            return found
        raise _InfraFault(f"{_TRIES} slots broke; the last: {fault}")

    def _give_back(self, slot: Any) -> None:
        if self.isolation == CONTAINER:
            self._pool.destroy(
                slot
            )  # at this level the container itself is what a run has to itself
        else:
            self._pool.put(slot)

    # --------------------------------------------------------------------------------- calls

    def call(
        self,
        code: str,
        entry_point: str,
        arguments: Sequence[Sequence[Any]],
        limits: Limits | None = None,
    ) -> tuple[Called, ...]:
        """Call a function of a program with each of several lists of arguments, in this order.

        Nothing is judged here: a test is made from what a program that is trusted to be right
        returns. The program is loaded once, and again after a call that ended it; behind two such
        calls the others are not made. Safe to call from many threads.

        Args:
            code: the whole program.
            entry_point: the function.
            arguments: of each call, its positional arguments in the tagged encoding.
            limits: of each call.

        Returns:
            What became of each. Where infrastructure failed all have the status ``infra_error``.

        Raises:
            TaskError: a value is not in the tagged encoding.
            SandboxError: no slot can be started, or infrastructure fails too often.
        """
        job = calls_job(code, entry_point, arguments, limits or Limits())
        fault = ""
        try:
            with self._lanes.shared():
                made = self._reply(job, partial(keep_call, job), partial(read_calls, job))
        except _InfraFault as error:
            fault = str(error)
            made = (Called("infra_error", detail=fault),) * len(arguments)
        self._count(bool(fault), fault)
        return made

    # ------------------------------------------------------------------------------- standing

    def standing(self, task: Task) -> Standing:
        """Return how strongly a task is tested, from one run of its reference, kept."""
        key = _task_key(task)
        with self._lock:
            lock = self._judging.setdefault(key, threading.Lock())
        with lock:
            if key not in self._standings:
                self._standings[key] = self._judge_task(task)
            return self._standings[key]

    def _judge_task(self, task: Task) -> Standing:
        strength = "strong"
        try:
            protocol.pack(make_job(task, task.reference or "", task.limits))
        except (protocol.ProtocolError, RecursionError) as error:
            return Standing(strength, f"its tests are too large to be run: {error}")
        if task.reference is not None:
            with self._lanes.shared():
                verdict, cannot_cross = self._once(task, task.reference, task.limits, "strong")
                if not verdict.accepted and cannot_cross:
                    strength = "weak"
                    verdict, _ = self._once(task, task.reference, task.limits, "weak")
            if any(map(_is_confirmed, verdict.tests)):
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

    def run_many(
        self, jobs: Iterable[tuple[K, Task, str | None]], repeat: int = 1
    ) -> Iterator[tuple[K, Verdict]]:
        """Run many programs, as many at once as there are workers.

        Args:
            jobs: key, task and program of each; consumed only as fast as runs finish.
            repeat: as for ``run``.

        Yields:
            Key and verdict, in order of completion.

        Raises:
            SandboxError: as ``run``. What ``jobs`` raises is raised here.
        """
        batch = Batch(jobs, partial(self.run, repeat=repeat), self.workers)
        try:
            yield from batch.results()
        finally:
            batch.stop()

    def run_many_async(
        self,
        jobs: Iterable[tuple[K, Task, str | None]] | AsyncIterable[tuple[K, Task, str | None]],
        repeat: int = 1,
    ) -> AsyncIterator[tuple[K, Verdict]]:
        """Do the same beside an event loop, for ``async for``; ``jobs`` may be asynchronous."""
        return run_all(jobs, partial(self.run, repeat=repeat), self.workers)


def _task_key(task: Task) -> tuple[object, ...]:
    """What two tasks have in common that judge alike."""
    assert task.tests is not None
    return task.tests.sha, task.entry_point, task.limits, task.reference


def _said(verdict: Verdict) -> str:
    """What one run says of a program, which the next has to repeat.

    How many tests a slow program passes before a limit is the machine's mood, and no contradiction.
    """
    name = str(verdict.outcome)
    if verdict.outcome not in (Outcome.WRONG_ANSWER, Outcome.RUNTIME_ERROR):
        return name
    return f"{name} ({verdict.passed} of {verdict.total} tests passed)"


def _is_confirmed(test: TestResult) -> bool:
    """Whether such a result counts only where it comes again, with no other run beside it.

    A program that was killed may have been so from outside, by a system short of memory.
    """
    return test.outcome in _CONFIRMED or test.detail == KILLED


class _InfraFault(Exception):
    """A run that no slot could finish."""
