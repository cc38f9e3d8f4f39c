"""BigCodeBench (Zhuo et al., arXiv:2406.15877): programs that use many libraries.

Full and hard set, each as a function to be completed (`complete`) or described in words
(`instruct`). The tests are `unittest` classes; most of their values have no plain form, so that the
sandbox runs them beside the program (strength `weak`). The libraries must be in the sandbox's
image: what they need is refused by the reference solutions, which run first.
"""

from __future__ import annotations

from align.artifacts import Row, canonical_json
from align.evaluation.benchmarks.base import Benchmark, Problem, load_data
from align.evaluation.benchmarks.humaneval import user_message, whole_program
from align.evaluation.forms import Question, function_problem
from align.sampling.forms import Form

_COLUMNS = (
    "task_id",
    "complete_prompt",
    "instruct_prompt",
    "code_prompt",
    "canonical_solution",
    "test",
    "entry_point",
)
_INSTRUCT_FORM = "bigcodebench-instruct/1"
#: Runs the tests as `unittest` does, and tells which failed. That a value can't leave the program
#: is no failure: the sandbox must hear of it, so that it runs the tests beside the program.
_RUNNER = """

def check(candidate):
    import io, unittest
    uncrossed = []

    class Result(unittest.TextTestResult):
        def addError(self, test, err):
            if err[0].__name__ == "CannotCross":
                uncrossed.append(err[1])
            super().addError(test, err)

    cases = unittest.defaultTestLoader.loadTestsFromTestCase(TestCases)
    result = unittest.TextTestRunner(stream=io.StringIO(), resultclass=Result).run(cases)
    if uncrossed:
        raise uncrossed[0]
    told = [text.strip().splitlines()[-1] for _, text in result.failures + result.errors]
    assert result.testsRun and result.wasSuccessful(), "; ".join(told) or "no test ran"
"""


def load(name: str, count: int | None, form: Form) -> Benchmark:
    """Returns a set of BigCodeBench, or a fixed slice of it.

    Raises:
        InputError: The data is not there or not as it should be.
    """
    data = load_data(name, _COLUMNS, count, "task_id")
    instruct = name.endswith("_instruct")
    problems = tuple(
        _problem(name, row, place, instruct, form, data.licence) for place, row in data.rows
    )
    asked = _INSTRUCT_FORM if instruct and form.key == "own" else form.name
    return Benchmark(name, problems, asked, data.sha)


def _problem(name: str, row: Row, place: str, instruct: bool, form: Form, licence: str) -> Problem:
    head, entry_point = row["complete_prompt"], row["entry_point"]
    task = {
        "task_id": f"{name}:{row['task_id']}",
        "language": "python",
        "messages": None,
        "prompt": None,
        "entry_point": entry_point,
        "tests": canonical_json({"kind": "script", "code": row["test"] + _RUNNER}),
        "limits": None,
        "reference": row["code_prompt"] + row["canonical_solution"],
        "source": "BigCodeBench",
        "licence": licence,
        "split": "test",
    }
    told = row["instruct_prompt"]
    ask = told if instruct else user_message(head)

    def whole(code: str) -> str:
        return whole_program(code, head, entry_point)

    question = Question(task, place, told if instruct else head, ask, whole=whole)
    return function_problem(question, form)
