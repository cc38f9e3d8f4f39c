"""HumanEval+ and MBPP+ in EvalPlus's release format (Liu et al., arXiv:2305.01210).

A problem has the benchmark's own inputs (`base_input`) and more of them (`plus_input`), on which an
answer must do what the reference solution does. The comparison is that of EvalPlus 0.3, special
rules included (`plus_oracle.py`); the reference runs with its contract, so that an input which
breaks it is found before anything is scored. MBPP+ has two releases of different size, which are
two benchmarks here.
"""

from __future__ import annotations

import ast
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from align.artifacts import Row, canonical_json
from align.errors import InputError
from align.evaluation.benchmarks import humaneval
from align.evaluation.benchmarks.base import Benchmark, load_data
from align.evaluation.forms import DOCSTRING_STOPS, Question, function_problem
from align.evaluation.scores import UNSCORED
from align.sampling.extract import parse
from align.sampling.forms import Form

_COLUMNS = ("task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input")
_ASKS = "Write a Python function for this. Answer with the whole program in one Python code block."


def load(name: str, count: int | None, form: Form) -> Benchmark:
    """Returns HumanEval+ or a release of MBPP+, or a fixed slice of it.

    Raises:
        InputError: The data is not there or not as it should be.
    """
    data = load_data(name, _COLUMNS, count, "task_id")
    problems = (
        function_problem(_question(name, row, place, data.licence), form)
        for place, row in data.rows
    )
    return Benchmark(name, tuple(problems), form.name, data.sha, measure=_base_share)


def _base_share(samples: Sequence[Row], verdicts: Mapping[str, Row]) -> dict[str, float]:
    """Returns the share of answers that pass the base inputs: the benchmark without its plus."""
    scored = [row for row in samples if verdicts[row["sample_id"]]["outcome"] not in UNSCORED]
    passed = sum(
        any(test["index"] == 0 and test["outcome"] == "accepted" for test in _tests(verdicts, row))
        for row in scored
    )
    return {"base_pass": passed / max(1, len(scored))}


def _tests(verdicts: Mapping[str, Row], sample: Row) -> list[dict[str, Any]]:
    tests: list[dict[str, Any]] = json.loads(verdicts[sample["sample_id"]]["tests"])
    return tests


def _question(name: str, row: Row, place: str, licence: str) -> Question:
    family = name.partition("_")[0]
    entry_point = row["entry_point"]
    reference = row["prompt"] + row["canonical_solution"]
    task = {
        "task_id": f"{name}:{row['task_id']}",
        "language": "python",
        "messages": None,
        "prompt": None,
        "entry_point": entry_point,
        "tests": canonical_json(_plus_tests(family, row, place)),
        "limits": None,
        "reference": reference,
        "source": name,
        "licence": licence,
        "split": "test",
    }
    if family == "humaneval":
        return humaneval.question(task, row, place)
    ask = f"{_ASKS}\n\n```python\n{row['prompt'].strip()}\n```"
    return Question(task, place, row["prompt"], ask, DOCSTRING_STOPS)


def _plus_tests(family: str, row: Row, place: str) -> Row:
    number = str(row["task_id"]).rpartition("/")[2]
    revived = family == "mbpp" and number.isdigit()
    setup = "\n".join(
        (
            _oracle(),
            "import json as _json",
            "_space = {}",
            f"exec({_with_contract(row, place)!r}, _space)",
            f"_reference = _space[{row['entry_point']!r}]",
            *(
                f"{key} = [{_revival(revived, number)} for each in _json.loads({text!r})]"
                for key, text in (
                    ("_base", json.dumps(row["base_input"])),
                    ("_plus", json.dumps(row["plus_input"])),
                )
            ),
        )
    )
    entry_point, tolerance = row["entry_point"], float(row.get("atol") or 0)
    call = f"check_inputs({family!r}, {entry_point!r}, {entry_point}, _reference"
    asserts = [f"{call}, {inputs}, {tolerance!r})" for inputs in ("_base", "_plus")]
    return {"kind": "asserts", "setup": setup, "asserts": asserts}


def _revival(revived: bool, number: str) -> str:
    return f"revive({int(number)}, each)" if revived else "each"


@lru_cache(maxsize=1)
def _oracle() -> str:
    package = importlib.resources.files("align.evaluation.benchmarks")
    return (package / "plus_oracle.py").read_text(encoding="utf-8")


def _with_contract(row: Row, place: str) -> str:
    """Returns the reference solution with its contract before its first statement."""
    code = str(row["prompt"] + row["canonical_solution"])
    contract = str(row.get("contract") or "")
    tree = parse(code)
    functions = [
        node
        for node in (tree.body if tree else ())
        if isinstance(node, ast.FunctionDef) and node.name == row["entry_point"]
    ]
    if not functions:
        raise InputError(f"{place}: the reference solution defines no {row['entry_point']}")
    body = functions[-1].body
    first = body[1] if len(body) > 1 and _is_docstring(body[0]) else body[0]
    if not contract.strip() or first.lineno == functions[-1].lineno:
        return code
    lines = code.split("\n")
    before = [line for line in contract.split("\n") if line.strip()]
    whole = "\n".join([*lines[: first.lineno - 1], *before, *lines[first.lineno - 1 :]])
    if parse(whole) is None:
        raise InputError(f"{place}: the contract does not fit into the reference solution")
    return whole


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
