"""MBPP's own rows as tasks (Austin et al., arXiv:2108.07732): its train split and no other."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from typing import Any

from align.artifacts import Row
from sandbox import TaskError

TRAIN_IDS = range(601, 975)
"""Task ids of the train split; 1 to 10 are few-shot prompts, the others are there to evaluate."""
TEST_IDS = range(11, 511)
"""Task ids of the test split."""
VALIDATION_IDS = range(511, 601)
"""Task ids of the validation split."""


def as_task(row: Mapping[str, Any]) -> Row:
    """Returns a row as the task that it describes: itself, or what an MBPP row says.

    Raises:
        TaskError: The row is damaged, or of another split than the one to train on.
    """
    if not ("test_list" in row and "code" in row and ("text" in row or "prompt" in row)):
        return dict(row)
    task = mbpp_task(row)
    if row["task_id"] not in TRAIN_IDS:
        raise TaskError(
            f"MBPP {row['task_id']} is not of the train split ({TRAIN_IDS[0]} to {TRAIN_IDS[-1]}): "
            "whoever trains on it can't measure by MBPP any more"
        )
    return task


def mbpp_task(row: Mapping[str, Any]) -> Row:
    """Returns a row of MBPP, of any split and release, as a task.

    Its prompt is its text with the first assertion, which names the function.

    Raises:
        TaskError: The row is damaged.
    """
    number, asserts = row.get("task_id"), row["test_list"]
    text = row.get("text") or row.get("prompt")
    setup = row.get("test_setup_code") or row.get("test_imports") or []
    setup = [setup] if isinstance(setup, str) else setup
    if (
        not isinstance(number, int)
        or not isinstance(asserts, list)
        or not isinstance(setup, list)
        or not asserts
        or not all(isinstance(each, str) for each in (text, row["code"], *setup, *asserts))
    ):
        raise TaskError(
            "an MBPP row needs a number as task_id, a text, code and a test_list of texts"
        )
    prompt = (
        f"{str(text).strip()}\nYour code should pass this test:\n\n```python\n{asserts[0]}\n```"
    )
    return {
        "task_id": f"mbpp/{number}",
        "language": "python",
        "messages": [{"role": "user", "content": prompt}],
        "entry_point": _entry_point(row["code"], asserts[0]),
        "tests": {"kind": "asserts", "setup": "\n".join(setup), "asserts": asserts},
        "reference": row["code"].replace("\r\n", "\n"),
        "source": "MBPP",
        "licence": "CC-BY-4.0",
    }


def _entry_point(code: str, test: str) -> str | None:
    """Returns the function of the reference solution that the test calls."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an escape that a string does not know
            tree, asked = ast.parse(code), ast.parse(test)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TaskError(f"the code or the first test is no Python: {error}") from error
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    called = [
        node.func.id
        for node in ast.walk(asked)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    return next((name for name in called if name in defined), None)
