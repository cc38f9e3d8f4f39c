"""Runs untrusted programs behind a wall and says what happened.

The untrusted process returns values, never verdicts; an infrastructure fault is never a wrong
answer. Imports nothing of ``align`` or ``judges``.
"""

from sandbox.calls import Called
from sandbox.check import TaskReport, check_task, check_tasks
from sandbox.doctor import Proof, doctor
from sandbox.errors import SandboxError, TaskError
from sandbox.limits import Limits
from sandbox.opening import ensure_image
from sandbox.runner import Sandbox
from sandbox.task import Task, parse_task
from sandbox.verdict import Outcome, Output, TestResult, Verdict

__all__ = [
    "Called",
    "Limits",
    "Outcome",
    "Output",
    "Proof",
    "Sandbox",
    "SandboxError",
    "Task",
    "TaskError",
    "TaskReport",
    "TestResult",
    "Verdict",
    "check_task",
    "check_tasks",
    "doctor",
    "ensure_image",
    "parse_task",
]
