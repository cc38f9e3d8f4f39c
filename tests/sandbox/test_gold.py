"""Published programs: every reference solution is accepted, every published bug refused."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import pytest

from benchmarks import gold_sets
from benchmarks.gold_sets import Case
from sandbox import Sandbox, Verdict

needs_data = pytest.mark.skipif(not os.environ.get("ALIGN_DATA"), reason="ALIGN_DATA is not set")


def judge(box: Sandbox, cases: Sequence[Case]) -> list[tuple[Case, Verdict]]:
    return list(box.run_many((case, case.task, case.code) for case in cases))


def false(judged: Sequence[tuple[Case, Verdict]]) -> dict[str, tuple[str, str]]:
    return {case.key: (v.outcome, v.detail) for case, v in judged if case.is_false(v)}


def test_humaneval_references_are_accepted_and_strong(box: Sandbox) -> None:
    # The helpers that a test needs are the sample's own here.
    cases = [
        dataclasses.replace(case, task=dataclasses.replace(case.task, reference=None))
        for case in gold_sets.humaneval()
    ]
    judged = judge(box, cases)
    assert len(judged) == 164
    assert false(judged) == {}
    assert {verdict.strength for _, verdict in judged} == {"strong"}


@needs_data
def test_published_bugs_are_refused(box: Sandbox) -> None:
    judged = judge(box, [case for case in gold_sets.humanevalpack() if not case.right])
    assert len(judged) == 164
    assert false(judged) == {}


@needs_data
def test_mbpp_references_are_accepted(box: Sandbox) -> None:
    judged = judge(box, gold_sets.mbpp("validation"))
    assert len(judged) == 90
    assert false(judged) == {}
    strong = sum(verdict.strength == "strong" for _, verdict in judged)
    assert strong >= 0.95 * len(judged)


@needs_data
def test_no_other_rows_output_is_accepted(box: Sandbox) -> None:
    cases = gold_sets.cruxeval()[:200]
    assert sum(case.right for case in cases) == 100
    assert false(judge(box, cases)) == {}
