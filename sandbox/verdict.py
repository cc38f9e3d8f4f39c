"""What a run is judged to be."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from typing import Any

KILLED = "killed by signal 9"
"""What the detail of a test says whose program was killed, and by no limit of ours."""


class Outcome(StrEnum):
    """The outcome of a test or of a sample; a sample's is that of its first test that failed."""

    ACCEPTED = "accepted"
    WRONG_ANSWER = "wrong_answer"
    RUNTIME_ERROR = "runtime_error"
    COMPILE_ERROR = "compile_error"
    NO_CODE = "no_code"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    TAMPERED = "tampered"
    FLAKY = "flaky"
    INVALID_TASK = "invalid_task"
    INFRA_ERROR = "infra_error"


@dataclasses.dataclass(frozen=True)
class TestResult:
    """One test: its place in the task, what became of it, and why in readable words."""

    __test__ = False  # not a test class, whatever its name

    index: int
    outcome: Outcome
    detail: str = ""
    cpu_ms: float = 0.0
    wall_ms: float = 0.0


@dataclasses.dataclass(frozen=True)
class Output:
    """One of a program's outputs: its size in bytes, its first and its last 2 KiB."""

    bytes: int = 0
    head: str = ""
    tail: str = ""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What happened to one program, and everything the statement rests on.

    ``strength`` is ``strong`` where the tests ran outside the program's process, else ``weak``.
    Times in ms, sizes in bytes. ``run_cpu_ms`` holds the CPU time of each run that it rests on,
    several where it was repeated. ``tests_sha`` and ``code_sha`` are SHA-256 hex digests.
    """

    outcome: Outcome
    passed: int
    total: int
    tests: tuple[TestResult, ...]
    strength: str
    detail: str
    cpu_ms: float
    wall_ms: float
    peak_bytes: int
    engine: str
    isolation: str
    image: str
    limits: dict[str, Any]
    tests_sha: str
    code_sha: str
    run_cpu_ms: tuple[float, ...] = ()
    stdout: Output = Output()
    stderr: Output = Output()

    @property
    def accepted(self) -> bool:
        """Whether every test passed."""
        return self.outcome is Outcome.ACCEPTED

    def to_row(self) -> dict[str, Any]:
        """Plain types for a table; nested ones as JSON strings."""
        row: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        row["outcome"] = self.outcome.value
        row["run_cpu_ms"] = json.dumps(self.run_cpu_ms)
        row["tests"] = json.dumps([dataclasses.asdict(test) for test in self.tests])
        row["limits"] = json.dumps(self.limits)
        row["stdout"] = json.dumps(dataclasses.asdict(self.stdout))
        row["stderr"] = json.dumps(dataclasses.asdict(self.stderr))
        return row
