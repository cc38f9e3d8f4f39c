"""MBPP (Austin et al., arXiv:2108.07732): short tasks in words, each with three assertions.

`mbpp` is the test split (ids 11 to 510), `mbpp_validation` the next 90, `mbpp_sanitized` the 427
that its authors went over by hand, of which those of the test split are measured.
"""

from __future__ import annotations

from align.artifacts import Row, canonical_json
from align.errors import InputError
from align.evaluation.benchmarks.base import Benchmark, load_data
from align.evaluation.forms import DOCSTRING_STOPS, Question, function_problem
from align.mbpp import TEST_IDS, VALIDATION_IDS, mbpp_task
from align.questions import docstring
from align.sampling.forms import Form
from sandbox import TaskError


def load(name: str, count: int | None, form: Form) -> Benchmark:
    """Returns a set of MBPP, or a fixed slice of `count` problems.

    Raises:
        InputError: The data is not there or not as it should be.
    """
    ids = VALIDATION_IDS if name == "mbpp_validation" else TEST_IDS
    columns = ("task_id", "code", "test_list")
    data = load_data(name, columns, count, "task_id", lambda row: row.get("task_id") in ids)
    problems = (function_problem(_question(name, row, place), form) for place, row in data.rows)
    return Benchmark(name, tuple(problems), form.name, data.sha)


def _question(name: str, row: Row, place: str) -> Question:
    try:
        plain = mbpp_task(row)
    except TaskError as error:
        raise InputError(f"{place}: {error}") from error
    text = str(row.get("text") or row.get("prompt")).strip()
    task = plain | {
        "task_id": f"{name}:{row['task_id']}",
        "messages": None,
        "prompt": None,
        "tests": canonical_json(plain["tests"]),
        "limits": None,
        "split": "test",
    }
    head = docstring(text, row["test_list"][0])
    return Question(task, place, head, plain["messages"][0]["content"], DOCSTRING_STOPS)
