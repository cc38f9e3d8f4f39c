"""Problems in EvalPlus's format: HumanEval with its own assertions, and MBPP's special rules.

EvalPlus's data is not on every machine. What a checker makes of the format can be seen without: the
first of HumanEval's assertions that call the function with literals become base inputs, the others
plus inputs. For each of MBPP's special rules there is a task in our own words, with an answer that
passes by it and one that does not.
"""

from __future__ import annotations

import ast
import json
from typing import Any

from align.artifacts import Row
from align.benchmark_files import benchmark_rows

_FLOAT_TASKS = {"HumanEval/32": 1e-4}
"""Tolerances that EvalPlus gives, where its own checker needs one."""


def humaneval_rows() -> list[Row]:
    """Returns HumanEval's problems with two or more literal inputs, as rows of HumanEval+."""
    rows = []
    for _, row in benchmark_rows("humaneval"):
        inputs = _literal_inputs(row["test"])
        if len(inputs) < 2:
            continue
        rows.append(
            {
                "task_id": row["task_id"],
                "prompt": row["prompt"],
                "entry_point": row["entry_point"],
                "canonical_solution": row["canonical_solution"],
                "contract": "",
                "base_input": inputs[:1],
                "plus_input": inputs[1:],
                "atol": _FLOAT_TASKS.get(row["task_id"], 0),
            }
        )
    return rows


def _literal_inputs(test: str) -> list[list[Any]]:
    inputs = []
    for node in ast.walk(ast.parse(test)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id != "candidate" or node.keywords:
            continue
        try:
            args = [ast.literal_eval(argument) for argument in node.args]
        except ValueError:
            continue
        if json.loads(json.dumps(args, default=str)) == args and args not in inputs:
            inputs.append(args)
    return inputs


def _mbpp(number: int, name: str, args: str, body: str, inputs: list[Any]) -> Row:
    return {
        "task_id": f"Mbpp/{number}",
        "prompt": '"""\nWrite it.\n"""\n',
        "entry_point": name,
        "canonical_solution": f"\ndef {name}({args}):\n    return {body}\n",
        "contract": "",
        "base_input": inputs,
        "plus_input": inputs,
        "atol": 0,
    }


MBPP_ROWS: list[Row] = [
    _mbpp(2, "similar_elements", "a, b", "tuple(set(a) & set(b))", [[[1, 2], [2, 3]]]),
    _mbpp(164, "are_equivalent", "a, b", "a == b", [[1, 2]]),
    _mbpp(295, "sum_div", "n", "n - 1", [[7]]),
    _mbpp(558, "digit_distance_nums", "a, b", "abs(a - b)", [[9, 10]]),
    _mbpp(581, "surface_Area", "a, b", "2 * a * b + a * a", [[3, 4]]),
    _mbpp(20, "check_str", "s", "s or None", [["x"], [""]]),
    _mbpp(116, "tuple_to_int", "t", "int(''.join(map(str, t)))", [[[1, 2]]]),
    _mbpp(252, "angle", "z", "z.real", [["1+2j"]]),
    _mbpp(9, "count", "s", "len(s)", [["ab"]]),
]

MBPP_ANSWERS: dict[str, list[str]] = {
    "Mbpp/2": ["def similar_elements(a, b):\n    return [2]", "similar_elements = max"],
    "Mbpp/164": [
        "def are_equivalent(a, b):\n    return 5",
        "def are_equivalent(a):\n    return 1",
    ],
    "Mbpp/295": ["def sum_div(n):\n    return 0", "def sum_div(n):\n    return 1"],
    "Mbpp/558": [
        "def digit_distance_nums(a, b):\n    return 10",  # |0-1| + |9-0|
        "def digit_distance_nums(a, b):\n    return 2",
    ],
    "Mbpp/581": [
        "def surface_Area(a, b):\n    return 35",
        "def surface_Area(a, b):\n    return 34",
    ],
    "Mbpp/20": [
        "def check_str(s):\n    return 'yes' if s else None",
        "def check_str(s):\n    return 1",
    ],
    "Mbpp/116": [
        "def tuple_to_int(t):\n    return 12 if isinstance(t, tuple) else 0",
        "def tuple_to_int(t):\n    return 12 if isinstance(t, list) else 0",
    ],
    "Mbpp/252": ["def angle(z):\n    return z.real + 1e-8", "def angle(z):\n    return z.imag"],
    "Mbpp/9": ["def count(s):\n    return len(s)", "def count(s):\n    return 3"],
}
"""The first answer to each passes by the task's rule, the second does not."""
