"""Published programs whose verdicts are known: reference solutions, and bugs made on purpose."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from align.benchmark_files import benchmark_rows
from align.errors import InputError
from align.tables import read_rows, resolve_table
from sandbox import Outcome, Task, Verdict, parse_task, values

# A refusal for one of these reasons says nothing about the program.
_NO_REFUSAL = (Outcome.INVALID_TASK, Outcome.INFRA_ERROR, Outcome.TAMPERED, Outcome.FLAKY)


@dataclasses.dataclass(frozen=True)
class Case:
    """One program, and whether it is right."""

    key: str
    task: Task
    code: str
    right: bool

    def is_false(self, verdict: Verdict) -> bool:
        """Whether the verdict isn't what is known about the program."""
        if self.right:
            return not verdict.accepted
        return verdict.accepted or verdict.outcome in _NO_REFUSAL


def humaneval() -> list[Case]:
    """HumanEval's 164 canonical solutions with their own tests."""
    cases = []
    for _, row in benchmark_rows("humaneval"):
        code = row["prompt"] + row["canonical_solution"]
        cases.append(Case(row["task_id"], _script(row, code, cpu_s=4.0), code, right=True))
    return cases


def humanevalpack() -> list[Case]:
    """HumanEvalPack's 164 Python problems, each with its canonical and its buggy solution."""
    cases = []
    for row in _rows("humanevalpack/humanevalpack_python.jsonl"):
        reference = row["prompt"] + row["canonical_solution"]
        # Where a test leans on a helper of the prompt's, the reference provides it.
        buggy = row["declaration"] + row["buggy_solution"]
        task = _script(row, reference, cpu_s=1.0)
        cases.append(Case(row["task_id"], task, reference, right=True))
        cases.append(Case(f"{row['task_id']} buggy", task, buggy, right=False))
    return cases


def mbpp(split: str) -> list[Case]:
    """The reference solutions of MBPP's ``train`` (374) or ``validation`` (90)."""
    cases = []
    for row in _rows(f"mbpp/mbpp_{split}.jsonl"):
        setup = row.get("test_setup_code", "")
        tests = {"kind": "asserts", "setup": setup, "asserts": row["test_list"]}
        key = f"mbpp:{row['task_id']}"
        task = parse_task({"task_id": key, "tests": tests, "reference": row["code"]})
        cases.append(Case(key, task, row["code"], right=True))
    return cases


def cruxeval() -> list[Case]:
    """CRUXEval's 800 functions with the output they have, and with another row's."""
    rows = list(_rows("cruxeval/cruxeval.jsonl"))
    cases = []
    for index, row in enumerate(rows):
        task = _crux_task(row["id"], row, row["output"], reference=row["code"])
        cases.append(Case(row["id"], task, row["code"], right=True))
        # No reference here: it would not pass, and the task would be invalid.
        key = f"{row['id']} swapped"
        task = _crux_task(key, row, _other_output(rows, index), reference=None)
        cases.append(Case(key, task, row["code"], right=False))
    return cases


def _other_output(rows: Sequence[Mapping[str, Any]], index: int) -> str:
    """The next output down the table that isn't equal to this row's."""
    own = ast.literal_eval(rows[index]["output"])
    outputs = (str(row["output"]) for row in (*rows[index + 1 :], *rows[:index]))
    return next(text for text in outputs if ast.literal_eval(text) != own)


def _crux_task(key: str, row: Mapping[str, Any], output: str, reference: str | None) -> Task:
    call = ast.parse(f"f({row['input']})", mode="eval").body
    assert isinstance(call, ast.Call) and not call.keywords
    try:
        args = [values.encode(ast.literal_eval(node)) for node in call.args]
    except ValueError:
        # A few arguments are expressions or functions: only test code can make those.
        tests: dict[str, Any] = {
            "kind": "asserts",
            "asserts": [f"assert f({row['input']}) == {output}"],
        }
    else:
        expected = values.encode(ast.literal_eval(output))
        tests = {"kind": "calls", "cases": [{"args": args, "expected": expected}]}
    return parse_task({"task_id": key, "entry_point": "f", "tests": tests, "reference": reference})


def _script(row: Mapping[str, Any], reference: str, cpu_s: float) -> Task:
    return parse_task(
        {
            "task_id": row["task_id"],
            "entry_point": row["entry_point"],
            "prompt": row["prompt"],
            "tests": {"kind": "script", "code": row["test"]},
            "reference": reference,
            "limits": {"cpu_s": cpu_s},
        }
    )


def _rows(name: str) -> list[Mapping[str, Any]]:
    path = resolve_table(name)
    if path is None:
        raise InputError(f"{name} is not there: set ALIGN_DATA to the folder that holds it")
    return [row for _, row in read_rows(path)]
