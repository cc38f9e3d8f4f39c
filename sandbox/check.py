"""Whether a task can be trusted to judge: its reference passes, nothing else that we know does."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator

from sandbox.batch import in_order
from sandbox.grade import stub
from sandbox.limits import Limits
from sandbox.runner import Sandbox
from sandbox.task import Task
from sandbox.verdict import Outcome, Verdict

_FLOOR_S = 4.0
_FACTOR = 4.0
# What the reference itself may take while its time is being measured.
_MEASURE_S = 60.0


@dataclasses.dataclass(frozen=True)
class TaskReport:
    """What checking a task found.

    Attributes:
        ok: whether samples can be judged by it.
        strength: ``strong`` where the reference's values cross to the tester, else ``weak``.
        problem: why not, where it is not ok.
        cpu_ms: the reference's slowest test, of all repeats.
        limits: the task's limits, with ``cpu_s`` at least 4 s and 4 times the reference's, and
            ``wall_s`` given where a reference that sleeps needs more than follows from it.
    """

    task_id: str
    ok: bool
    strength: str
    problem: str
    cpu_ms: float
    limits: Limits


def check_task(box: Sandbox, task: Task, repeats: int = 2) -> TaskReport:
    """Run a task's reference ``repeats`` times, and two programs that must be refused.

    A task without tests or without a reference is not ok: there is nothing to check it by.

    Raises:
        SandboxError: the sandbox itself failed.
    """
    if task.tests is None:
        return _report(task, "no tests: it can be judged by a model, never executed")
    if task.reference is None or not task.reference.strip():
        return _report(task, "no reference: nothing to check by")
    roomy = dataclasses.replace(task.limits, cpu_s=max(task.limits.cpu_s, _MEASURE_S), wall_s=None)
    measured = dataclasses.replace(task, limits=roomy)
    runs: list[Verdict] = []
    started = time.monotonic()
    for turn in range(max(1, repeats)):
        if runs and runs[-1].outcome is Outcome.INVALID_TASK:
            if time.monotonic() - started > _MEASURE_S:
                break  # one that never ends is not looked at ten times
            # What is known of a task is kept; only other limits have its reference looked at again.
            again = dataclasses.replace(roomy, cpu_s=roomy.cpu_s + turn / 1000)
            measured = dataclasses.replace(task, limits=again)
        runs.append(box.run(measured, task.reference))
        if runs[-1].outcome is Outcome.INFRA_ERROR:
            return _report(task, f"the sandbox failed: {runs[-1].detail}", runs)
    failed = [verdict for verdict in runs if not verdict.accepted]
    if failed:
        flaky = f"flaky: {len(runs) - len(failed)} of {len(runs)} runs of the reference passed; "
        words = f"{failed[0].outcome}: {failed[0].detail}"
        return _report(task, (flaky if len(failed) < len(runs) else "") + words, runs)
    for name, program in (("an empty program", "pass\n"), ("a stub that raises", stub(task))):
        verdict = box.run(measured, program)
        if verdict.outcome in (Outcome.ACCEPTED, Outcome.INFRA_ERROR):
            return _report(task, f"{name} is {verdict.outcome}", runs)
    return _report(task, "", runs)


def check_tasks(box: Sandbox, tasks: Iterable[Task], repeats: int = 2) -> Iterator[TaskReport]:
    """Check many tasks, as many at once as the sandbox has workers; yields in the tasks' order.

    Raises:
        SandboxError: the sandbox itself failed.
    """
    for _, report in in_order(tasks, lambda task: check_task(box, task, repeats), box.workers):
        yield report


def _report(task: Task, problem: str, runs: Iterable[Verdict] = ()) -> TaskReport:
    runs = list(runs)
    tests = [test for verdict in runs for test in verdict.tests]
    cpu_ms = max((test.cpu_ms for test in tests), default=0.0)
    wall_s = _FACTOR * max((test.wall_ms for test in tests), default=0.0) / 1000
    limits = dataclasses.replace(
        task.limits, cpu_s=max(_FLOOR_S, round(_FACTOR * cpu_ms / 1000, 1))
    )
    if wall_s > limits.wall:
        limits = dataclasses.replace(limits, wall_s=round(wall_s, 1))
    strength = runs[-1].strength if runs else "strong"
    return TaskReport(task.task_id, not problem, strength, problem, cpu_ms, limits)
