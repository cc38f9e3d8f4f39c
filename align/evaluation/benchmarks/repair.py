"""HumanEvalPack's Python bugs (Muennighoff et al., arXiv:2308.07124): mend a function.

The model sees the function with its bug, its docstring, and the tests that it fails (the variant
`humanevalfixtests`, the harder one to misread); the answer is run against the same tests.
"""

from __future__ import annotations

from align.artifacts import Row, canonical_json
from align.evaluation.benchmarks.base import Benchmark, Problem, load_data
from align.evaluation.benchmarks.humaneval import whole_program
from align.sampling.extract import EXTRACTOR, extract_code
from align.sampling.forms import Form
from align.sampling.prompts import task_prompt

_FORM = "repair-with-tests/1"
_COLUMNS = (
    "task_id",
    "prompt",
    "declaration",
    "buggy_solution",
    "canonical_solution",
    "test",
    "entry_point",
)


def load(name: str, count: int | None, form: Form) -> Benchmark:
    """Returns the repair tasks, or a fixed slice of them; they have one prompt form.

    Raises:
        InputError: The data is not there or not as it should be.
    """
    data = load_data(name, _COLUMNS, count, "task_id")
    problems = tuple(_problem(name, row, place, data.licence) for place, row in data.rows)
    return Benchmark(name, problems, _FORM, data.sha)


def _problem(name: str, row: Row, place: str, licence: str) -> Problem:
    entry_point = row["entry_point"]
    buggy = row["declaration"] + row["buggy_solution"]
    text = (
        f"The function `{entry_point}` has a bug: its tests fail. Mend it. Answer with the whole "
        f"function in one Python code block.\n\n```python\n{buggy.strip()}\n```\n\nThe tests:\n\n"
        f"```python\n{row['test'].strip()}\n```"
    )
    task = {
        "task_id": f"{name}:{row['task_id']}",
        "language": "python",
        "messages": [{"role": "user", "content": text}],
        "prompt": None,
        "entry_point": entry_point,
        "tests": canonical_json({"kind": "script", "code": row["test"]}),
        "limits": None,
        "reference": row["prompt"] + row["canonical_solution"],
        "source": "HumanEvalPack",
        "licence": licence,
        "split": "test",
    }

    def find_code(text: str) -> str | None:
        code = extract_code(text, entry_point)
        return None if code is None else whole_program(code, row["prompt"], entry_point)

    return Problem(
        task, lambda tokenizer: task_prompt(tokenizer, place, task), find_code, EXTRACTOR
    )
