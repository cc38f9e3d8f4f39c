"""Whether a task can be trusted to judge: its reference passes, nothing else that we know does."""

from __future__ import annotations

import dataclasses

from sandbox.errors import TaskError
from sandbox.grade import stub
from sandbox.limits import Limits
from sandbox.runner import Sandbox
from sandbox.task import Task
from sandbox.verdict import Outcome

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
        limits: the task's limits, with ``cpu_s`` at least 4 s and 4 times the reference's.
    """

    task_id: str
    ok: bool
    strength: str
    problem: str
    cpu_ms: float
    limits: Limits


def check_task(box: Sandbox, task: Task, repeats: int = 2) -> TaskReport:
    """Run a task's reference ``repeats`` times, and two programs that must be refused.

    Raises:
        TaskError: the task has no tests or no reference.
        SandboxError: the sandbox itself failed.
    """
    if task.tests is None:
        raise TaskError(f"task {task.task_id}: tests: there are none to check")
    if task.reference is None:
        raise TaskError(f"task {task.task_id}: reference: there is none to check the tests with")
    roomy = dataclasses.replace(task.limits, cpu_s=max(task.limits.cpu_s, _MEASURE_S), wall_s=None)
    measured = dataclasses.replace(task, limits=roomy)
    strength = "strong"
    slowest = 0.0
    for turn in range(max(1, repeats)):
        verdict = box.run(measured, task.reference)
        strength = verdict.strength
        slowest = max([slowest, *(test.cpu_ms for test in verdict.tests)])
        if verdict.outcome is Outcome.INFRA_ERROR:
            return _report(task, strength, f"the sandbox failed: {verdict.detail}", slowest)
        if not verdict.accepted:
            first = "" if turn == 0 else f" in run {turn + 1} (it passed before: flaky)"
            return _report(task, strength, f"{verdict.outcome}: {verdict.detail}{first}", slowest)
    for name, program in (("an empty program", "pass\n"), ("a stub that raises", stub(task))):
        verdict = box.run(measured, program)
        if verdict.outcome in (Outcome.ACCEPTED, Outcome.INFRA_ERROR):
            return _report(task, strength, f"{name} is {verdict.outcome}", slowest)
    return _report(task, strength, "", slowest)


def _report(task: Task, strength: str, problem: str, slowest_ms: float) -> TaskReport:
    cpu_s = max(_FLOOR_S, round(_FACTOR * slowest_ms / 1000, 1))
    limits = dataclasses.replace(task.limits, cpu_s=cpu_s)
    return TaskReport(task.task_id, not problem, strength, problem, slowest_ms, limits)
