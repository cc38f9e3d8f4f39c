"""Reads samples, verdicts and judgements into candidates, task by task."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from align.answers import whole_answer
from align.artifacts import Row
from align.preference.classes import NOT_EXECUTED, TAMPERED, OutcomeClass, class_of
from align.preference.likeness import marks_of, normal_form
from align.tables import read_by_sample, read_samples, read_tasks
from align.verdicts import check_same

_NEEDED = ("sample_id", "task_id", "text", "finish_reason", "n_tokens")

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Candidate:
    """One sample with all that the rules look at.

    Attributes:
        messages: The prompt.
        text: The whole answer, its prefill included.
        ended: The policy ended the answer itself (no cut at the token limit).
        passed: Tests passed.
        total: Tests of the task; 0 where nothing ran.
        tests: Whether each test passed, in the task's order.
        runs: CPU time of each run that the verdict rests on, in ms.
        score: The judge's score, or None where it gave none.
        repairs: Id of the failing sample that this one is a repaired version of.
    """

    sample_id: str
    task_id: str
    messages: Messages
    text: str
    code: str | None
    n_tokens: int
    finish_reason: str
    outcome: str
    strength: str = "strong"
    passed: int = 0
    total: int = 0
    tests: tuple[bool, ...] = ()
    runs: tuple[float, ...] = ()
    verdict_id: str | None = None
    judgement_id: str | None = None
    score: float | None = None
    sum_logprob: float | None = None
    weights_sha: str | None = None
    repairs: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the policy ended the answer itself."""
        return self.finish_reason == "stop"

    @property
    def share(self) -> float:
        """Share of the tests passed, 0 to 1."""
        return self.passed / self.total if self.total else 0.0

    @property
    def outcome_class(self) -> OutcomeClass | None:
        """Its class, or None where it may enter no pair by execution."""
        return class_of(self.outcome)

    @cached_property
    def normal(self) -> str:
        """Its code without layout, comments and docstrings; its text where it has no code."""
        return normal_form(self.code) or self.text.strip()

    @cached_property
    def marks(self) -> list[str]:
        """The words and marks of `normal`."""
        return marks_of(self.normal)


@dataclass(frozen=True)
class TaskFacts:
    """What is known of a task."""

    language: str | None = None
    licence: str | None = None
    tested: bool = False


@dataclass
class Pool:
    """All that pairs can be made of.

    Attributes:
        groups: Candidates by task.
        tampered: Samples that tampered with their tests, as rows.
        unmatched: Samples that could not be used, by why.
        tasks: What is known of the tasks.
    """

    groups: dict[str, list[Candidate]] = field(default_factory=lambda: defaultdict(list))
    tampered: list[Row] = field(default_factory=list)
    unmatched: Counter[str] = field(default_factory=Counter)
    tasks: dict[str, TaskFacts] = field(default_factory=dict)

    def facts(self, task_id: str) -> TaskFacts:
        """Returns what is known of a task."""
        return self.tasks.get(task_id, TaskFacts())


def read_pool(inputs: Mapping[str, Path]) -> Pool:
    """Reads `samples`, and what there is of `verdicts`, `judgements` and `tasks`.

    A sample without a verdict counts only where a judge scored it, no sample of its task has a
    verdict, and the task has no tests as far as `tasks` tells. A judge overrules no verdict.

    Raises:
        InputError: A table can't be read or has two rows of one sample, or a verdict is of another
            task or program than its sample's.
    """
    verdicts = read_by_sample(inputs.get("verdicts"), "verdict")
    judgements = read_by_sample(inputs.get("judgements"), "judgement")
    executed = {row["task_id"] for row in verdicts.values()}
    pool = Pool()
    if "tasks" in inputs:
        for task_id, row in read_tasks(inputs["tasks"]).items():
            language, tested = row.get("language") or "python", bool(row.get("tests"))
            pool.tasks[task_id] = TaskFacts(language, row.get("licence"), tested)
    for place, sample in read_samples(inputs["samples"], _NEEDED):
        verdict = verdicts.get(sample["sample_id"])
        judgement = judgements.get(sample["sample_id"])
        has_tests = sample["task_id"] in executed or pool.facts(sample["task_id"]).tested
        if verdict is None and (judgement is None or has_tests):
            pool.unmatched["no_verdict"] += 1
        elif sample.get("messages") is None:
            pool.unmatched["raw_prompt"] += 1
        else:
            if verdict is not None:
                check_same(place, sample, verdict)
            candidate = _candidate(sample, verdict, judgement)
            pool.groups[candidate.task_id].append(candidate)
            if verdict is not None and candidate.outcome == TAMPERED:
                pool.tampered.append(_tampered(candidate, verdict))
    return pool


def _candidate(sample: Row, verdict: Row | None, judgement: Row | None) -> Candidate:
    policy: Mapping[str, Any] = sample.get("policy") or {}
    return Candidate(
        sample_id=sample["sample_id"],
        task_id=sample["task_id"],
        messages=sample["messages"],
        text=whole_answer(sample),
        code=sample.get("code"),
        n_tokens=sample["n_tokens"],
        finish_reason=sample["finish_reason"],
        **(_verdict(verdict) if verdict else {"outcome": NOT_EXECUTED}),
        judgement_id=judgement["judgement_id"] if judgement else None,
        score=judgement["score"] if judgement and judgement["status"] == "ok" else None,
        sum_logprob=sample.get("sum_logprob"),
        weights_sha=policy.get("adapter_sha") or policy.get("weights_sha"),
        repairs=sample.get("repairs"),
    )


def _verdict(row: Row) -> dict[str, Any]:
    tests = sorted(json.loads(row.get("tests") or "[]"), key=lambda test: test["index"])
    return {
        "outcome": row["outcome"],
        "strength": row["strength"],
        "passed": row["passed"],
        "total": row["total"],
        "tests": tuple(test["outcome"] == "accepted" for test in tests),
        "runs": tuple(row.get("run_cpu_ms") or ()),
        "verdict_id": row["verdict_id"],
    }


def _tampered(candidate: Candidate, verdict: Row) -> Row:
    return {
        "sample_id": candidate.sample_id,
        "task_id": candidate.task_id,
        "verdict_id": verdict["verdict_id"],
        "text": candidate.text,
        "code": candidate.code,
        "detail": verdict.get("detail"),
    }
