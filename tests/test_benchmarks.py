"""The benchmarks: how problems are put, how code is found, and that right and wrong are told apart.

Data that is not here is stood in for by rows of its published format, in our own words.
"""

from __future__ import annotations

import ast
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from align.artifacts import Row
from align.benchmark_files import KNOWN_BENCHMARKS, SOURCES, benchmark_texts, find_benchmark
from align.completions import Sampler
from align.errors import ArtifactError, InputError
from align.evaluation.benchmarks import card, cruxeval, load, plus_oracle
from align.evaluation.benchmarks.base import Benchmark
from align.evaluation.forms import DOCSTRING_STOPS, HEAD_STOPS
from align.evaluation.stage import check_references
from align.sampling.begun import continuation, prefilled_block, reachable
from align.sampling.forms import FORMS, form_of
from align.settings import Block, EvalPrompt, EvalSettings
from benchmarks.plus_fixture import MBPP_ANSWERS, MBPP_ROWS
from sandbox import Sandbox, parse_task
from tests.conftest import RecordingContext

# ------------------------------------------------------------------------------ extraction


def test_what_the_function_does_not_reach_is_left_out() -> None:
    code = (
        "import math\nLIMIT = 3\nUNUSED = input()\n\n@staticmethod\ndef helper(x):\n"
        "    # kept\n    return x + LIMIT\n\ndef other():\n    return 1\n\n"
        "def f(x):\n    print(x)\n    helper(x)\n\nprint(f(2))\n"
        "if __name__ == '__main__':\n    f(1)\n"
    )
    kept = reachable(code, "f")
    assert "UNUSED" not in kept and "other" not in kept and "print(f(2))" not in kept
    for part in ("import math", "LIMIT = 3", "@staticmethod\ndef helper", "# kept", "def f(x):"):
        assert part in kept
    ast.parse(kept)
    assert reachable(code, "g") == code, "a program without the entry point stays whole"
    assert reachable("def f(:", "f") == "def f(:"


def test_a_choice_of_imports_stays_and_a_redefinition_too() -> None:
    code = (
        "try:\n    from fast import sqrt\nexcept ImportError:\n    from math import sqrt\n"
        "def f(x):\n    return 0\ndef f(x):\n    return sqrt(x)\n"
    )
    assert reachable(code, "f") == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("def f():\n    return 1\n```\nIt returns one.", "def f():\n    return 1"),
        ("def f():\n    return 1\n", "def f():\n    return 1"),
        ("def f():\n    return 1\n\nx = [1,", "def f():\n    return 1"),
        ("def f():\r\n    return 1\r\n```", "def f():\n    return 1"),
        ("```\nnothing", None),
        ("", None),
        ("Sure, here it is:", None),
    ],
)
def test_the_block_that_was_begun_is_read_to_its_end(text: str, code: str | None) -> None:
    assert prefilled_block(text, "f") == code


def test_a_raw_completion_is_the_prompt_and_what_parses() -> None:
    head = "def f(x):\n    '''Adds one.'''\n"
    assert continuation(head, "    return x + 1\n\nf(", "f") == head + "    return x + 1\n"


# ---------------------------------------------------------------------------------- forms

WORDS: Row = {
    "task_id": "HumanEval/0",
    "prompt": "import math\n\n\ndef f(x):\n    '''Halves x.'''\n",
    "entry_point": "f",
    "canonical_solution": "    return x / 2\n",
    "test": "def check(candidate):\n    assert candidate(4) == 2\n",
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALIGN_DATA", str(tmp_path))
    return tmp_path


def put(data: Path, name: str, *rows: Row) -> None:
    path = data / SOURCES[name].file
    path.parent.mkdir(exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".json":
        text = json.dumps(rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_has_its_own_stops_and_finds_its_code(data: Path, form: EvalPrompt) -> None:
    put(data, "humaneval", WORDS)
    benchmark = load("humaneval", None, FORMS[form])
    assert benchmark.prompt_form == FORMS[form].name
    (problem,) = benchmark.problems
    body = "    return x / 2\n"
    answers = {
        "own": f"Sure.\n```python\ndef f(x):\n{body}```",
        "qwen": f"def f(x):\n{body}",
        "evalplus": f"def f(x):\n{body}",
        "raw": body,
    }
    code = problem.find_code(answers[form])
    assert code is not None and "import math" in code and code.rstrip().endswith("return x / 2")
    assert problem.extractor == FORMS[form].extractor
    assert problem.find_code("I can't say.") is None


def test_the_lists_of_stops_are_nobodys_to_change() -> None:
    assert all(isinstance(form.stop, tuple) for form in FORMS.values())
    assert len({form.name for form in FORMS.values()}) == len(FORMS)


# --------------------------------------------------------------------------- right and wrong


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(engine="namespaces", isolation="ns", workers=2) as box:
        yield box


def outcomes(box: Sandbox, benchmark: Benchmark, codes: dict[str, list[str]]) -> dict[str, Any]:
    tasks = {p.task["task_id"]: parse_task(p.task) for p in benchmark.problems}
    work = [
        ((key, number), tasks[f"{benchmark.name}:{key}"], code)
        for key, each in codes.items()
        for number, code in enumerate(each)
    ]
    return {key: verdict for key, verdict in box.run_many(work)}


PLUS: Row = {
    "task_id": "HumanEval/900",
    "prompt": "def halves(xs: list) -> list:\n    '''Half of each.'''\n",
    "entry_point": "halves",
    "canonical_solution": "    return [x / 2 for x in xs]\n",
    "contract": "    assert all(type(x) in (int, float) for x in xs)\n",
    "base_input": [[[2, 4]]],
    "plus_input": [[[]], [[0.1, 3]], [[-1e9]]],
    "atol": 0,
}
ZERO: Row = {
    "task_id": "HumanEval/901",
    "prompt": "def find_zero(xs: list):\n    '''A root.'''\n",
    "entry_point": "find_zero",
    "canonical_solution": "    return -xs[0] / xs[1]\n",
    "contract": "",
    "base_input": [[[1, 2]]],
    "plus_input": [[[3, -4]]],
    "atol": 1e-4,
}


@pytest.mark.engine
def test_plus_inputs_are_run_against_the_reference(data: Path, box: Sandbox) -> None:
    put(data, "humaneval_plus", PLUS, ZERO)
    benchmark = load("humaneval_plus")
    context = RecordingContext()
    check_references(benchmark, box, context)
    assert context.notes == ["humaneval_plus: 2 of 2 reference solutions pass"]
    body = "def halves(xs):\n    return "
    verdicts = outcomes(
        box,
        benchmark,
        {
            "HumanEval/900": [
                body + "[x * 0.5 + 1e-9 for x in xs]",  # within the tolerance of floats
                body + "[x / 2 for x in xs] if xs else [0.0]",  # the base input passes
                body + "[x // 2 for x in xs]",
                body + "tuple(x / 2 for x in xs)",
                "def halves(xs):\n    class L(list):\n        __eq__ = lambda s, o: True\n"
                "    return L([9])",
                "def halves(xs):\n    import sys\n    sys.exit(0)",
            ],
            "HumanEval/901": [
                "def find_zero(xs):\n    return -xs[0] / xs[1] + 1e-5",
                "def find_zero(xs):\n    return 0.0",
            ],
        },
    )
    assert [v.accepted for v in dict(sorted(verdicts.items())).values()] == [
        *(True, False, False, False, False, False),
        *(True, False),
    ]
    base = {key: v.tests[0].outcome for key, v in verdicts.items()}
    assert base["HumanEval/900", 1] == "accepted"
    sample = {"sample_id": "s"}
    tests = json.dumps([{"index": 0, "outcome": "accepted"}])
    row = {"s": {"outcome": "wrong_answer", "tests": tests}}
    row["f"] = {"outcome": "infra_error", "tests": "[]"}
    assert benchmark.measure is not None
    assert benchmark.measure([sample, {"sample_id": "f"}], row) == {"base_pass": 1.0}


@pytest.mark.engine
def test_an_input_that_breaks_the_contract_stops_the_evaluation(data: Path, box: Sandbox) -> None:
    put(data, "humaneval_plus", {**PLUS, "plus_input": [[["text"]]]})
    with pytest.raises(ArtifactError, match="0 of 1 reference solutions pass"):
        check_references(load("humaneval_plus"), box, RecordingContext())


@pytest.mark.engine
def test_the_special_rules_of_mbpp_plus(data: Path, box: Sandbox) -> None:
    put(data, "mbpp_plus", *MBPP_ROWS)
    benchmark = load("mbpp_plus")
    check_references(benchmark, box, RecordingContext())
    verdicts = outcomes(box, benchmark, MBPP_ANSWERS)
    assert {key: verdict.accepted for key, verdict in verdicts.items()} == {
        (key, number): number == 0 for key in MBPP_ANSWERS for number in (0, 1)
    }


def test_mbpp_plus_inputs_get_their_types_back() -> None:
    revive = plus_oracle.revive
    assert revive(2, [[1], [2]]) == [(1,), (2,)]
    assert revive(63, [[[1, 2]]]) == [[(1, 2)]]
    assert revive(259, [[[1, 2]], [[3]]]) == [((1, 2),), ((3,),)]
    assert revive(250, [[1, 2], 3]) == [(1, 2), 3]
    assert revive(307, [[1], 2, 3]) == [(1,), 2, 3]
    assert revive(580, [[1, [2]]]) == ((1, (2,)),)
    assert revive(75, [[[1]], 2]) == [[(1,)], 2]
    assert revive(106, [[1], [2]]) == [[1], (2,)]
    assert revive(115, [[[1], []]]) == [[{1}, {}]]
    assert revive(124, ["1", "2j"]) == [1.0, 2j]
    assert revive(278, [[[1], 2]]) == [((1,), 2)]
    assert revive(722, [{"a": [1]}, 2]) == [{"a": (1,)}, 2]
    assert revive(9, [[1]]) == [[1]]


CRUX: Row = {
    "id": "sample_0",
    "code": "def f(text):\n    return [len(text), text.upper()]",
    "input": "'ab'",
    "output": "[2, 'AB']",
}


@pytest.mark.engine
@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        (
            "cruxeval_output",
            ["```python\nassert f('ab') == [2, 'AB']\n```", "```\n[2, 'AB']\n```", "[2, 'A' 'B']"],
            ["```python\nassert f('ab') == [2, 'ab']\n```", "(2, 'AB')"],
        ),
        (
            "cruxeval_input",
            ["```python\nassert f('ab') == [2, 'AB']\n```", "```\ntext='aB'\n```", "'Ab'"],
            ["```python\nassert f('abc') == [2, 'AB']\n```", "2"],
        ),
    ],
)
def test_cruxeval_takes_assertions_and_expressions(
    data: Path, box: Sandbox, name: str, right: list[str], wrong: list[str]
) -> None:
    put(data, name, CRUX)
    benchmark = load(name)
    check_references(benchmark, box, RecordingContext())
    (problem,) = benchmark.problems
    codes = [problem.find_code(text) for text in (*right, *wrong)]
    assert all(code is not None for code in codes)
    verdicts = outcomes(box, benchmark, {"sample_0": [str(code) for code in codes]})
    accepted = [verdicts["sample_0", number].accepted for number in range(len(codes))]
    assert accepted == [True] * len(right) + [False] * len(wrong)
    for none in ("", "I don't know.", "```python\nimport os\n```"):
        assert problem.find_code(none) is None


def test_an_output_that_calls_the_function_is_no_answer(data: Path) -> None:
    put(data, "cruxeval_output", CRUX)
    (problem,) = load("cruxeval_output").problems
    assert problem.find_code("```python\nassert f('ab') == f('ab')\n```") is None
    assert problem.find_code("1) or predicted(") is None
    with pytest.raises(SyntaxError):
        ast.parse(cruxeval.program("", "1) or (", output=False) + ")")


BIGCODE: Row = {
    "task_id": "BigCodeBench/0",
    "complete_prompt": "import csv\nimport io\n\ndef task_func(rows):\n    '''To CSV.'''\n",
    "instruct_prompt": "Write CSV.\n```\nimport csv\nimport io\ndef task_func(rows):\n```",
    "code_prompt": "import csv\nimport io\n\ndef task_func(rows):\n",
    "canonical_solution": (
        "    out = io.StringIO()\n    csv.writer(out).writerows(rows)\n    return out\n"
    ),
    "test": (
        "import unittest\nfrom unittest.mock import patch\n"
        "class TestCases(unittest.TestCase):\n"
        "    def test_one(self):\n"
        "        self.assertEqual(task_func([[1, 2]]).getvalue().strip(), '1,2')\n"
        "    def test_none(self):\n"
        "        self.assertEqual(task_func([]).getvalue(), '')\n"
    ),
    "entry_point": "task_func",
}


@pytest.mark.engine
@pytest.mark.parametrize("name", ["bigcodebench_hard_complete", "bigcodebench_instruct"])
def test_bigcodebench_runs_its_unittests(data: Path, box: Sandbox, name: str) -> None:
    put(data, name, BIGCODE)
    benchmark = load(name)
    check_references(benchmark, box, RecordingContext())
    (problem,) = benchmark.problems
    right = problem.find_code(
        "```python\ndef task_func(rows):\n    out = io.StringIO()\n"
        "    csv.writer(out).writerows(rows)\n    return out\n```"
    )
    assert right is not None and right.startswith("import csv")
    wrong = "import io\ndef task_func(rows):\n    return io.StringIO('1,2')\n"
    verdicts = outcomes(box, benchmark, {"BigCodeBench/0": [right, wrong]})
    assert [verdicts["BigCodeBench/0", n].accepted for n in (0, 1)] == [True, False]
    assert "AssertionError" in verdicts["BigCodeBench/0", 1].detail


@pytest.mark.engine
def test_repair_accepts_the_mended_function_only(data: Path, box: Sandbox) -> None:
    row = {**WORDS, "declaration": "def f(x):\n", "buggy_solution": "    return x * 2\n"}
    row["task_id"] = "Python/0"
    put(data, "humanevalpack_repair", row)
    benchmark = load("humanevalpack_repair")
    check_references(benchmark, box, RecordingContext())
    (problem,) = benchmark.problems
    assert "return x * 2" in problem.task["messages"][0]["content"]
    codes = ["def f(x):\n    return x / 2", "def f(x):\n    return x * 2"]
    verdicts = outcomes(box, benchmark, {"Python/0": codes})
    assert [verdicts["Python/0", n].accepted for n in (0, 1)] == [True, False]


def test_mbpp_is_split_by_ids_and_the_train_split_is_no_benchmark(data: Path) -> None:
    def row(number: int) -> Row:
        tests = ["assert add(1) == 2", "assert add(2) == 3"]
        code = "def add(x):\n    return x + 1"
        return {"task_id": number, "text": "Add one.", "code": code, "test_list": tests}

    put(data, "mbpp", row(11), row(600), row(601))
    put(data, "mbpp_validation", row(511), row(700))
    sanitized = {**row(12), "prompt": "Add one.", "test_imports": ["import math"]}
    put(data, "mbpp_sanitized", sanitized, {**sanitized, "task_id": 602})
    for name, number in (("mbpp", 11), ("mbpp_validation", 511), ("mbpp_sanitized", 12)):
        (problem,) = load(name, None, FORMS["evalplus"]).problems
        assert problem.task["task_id"] == f"{name}:{number}"
        assert len(json.loads(problem.task["tests"])["asserts"]) == 2


# --------------------------------------------------------------------------------- the data


def test_data_that_is_missing_is_said_with_its_place(data: Path) -> None:
    for name in ("humaneval_plus", "mbpp_plus_v0.1.0", "humaneval_infilling_multi_line"):
        with pytest.raises(
            InputError, match=rf"the data of {name} is not there: put .* at \$ALIGN"
        ):
            load(name)
    assert find_benchmark("mbpp") is None, "the Hub has it"


def test_data_of_another_kind_is_refused(data: Path) -> None:
    put(data, "humaneval_plus", WORDS)
    with pytest.raises(InputError, match=r"base_input, plus_input is missing: this is not human"):
        load("humaneval_plus")
    put(data, "humaneval_plus", PLUS, PLUS)
    with pytest.raises(InputError, match="a second problem HumanEval/900"):
        load("humaneval_plus")


def test_every_benchmark_has_a_card_that_names_its_licence() -> None:
    for name in KNOWN_BENCHMARKS:
        text = card(name)
        assert name.partition("_infilling")[0] in text and "## Changes" in text
        assert SOURCES[name].licence.replace("-", " ").removesuffix(".0") in text.replace("-", " ")
    with pytest.raises(InputError, match="no known benchmark"):
        card("nothing")


def test_generated_inputs_are_no_text_that_training_rows_must_not_overlap(data: Path) -> None:
    put(data, "mbpp_plus", {**MBPP_ROWS[-1], "plus_input": [["a very long text of words"]]})
    ((problem, row),) = benchmark_texts("mbpp_plus")
    assert problem == "Mbpp/9" and "base_input" not in row and "canonical_solution" in row


TWICE = "First:\n```python\ndef g():\n    return 1\n```\nBetter:\n```python\nx = 1\n```\n"


@pytest.mark.parametrize(("block", "code"), [("first", "def g"), ("last", "x = 1")])
def test_the_first_or_the_last_block_is_taken_on_request(
    data: Path, block: Block, code: str
) -> None:
    put(data, "humaneval", WORDS)
    (problem,) = load("humaneval", None, form_of("own", block)).problems
    found = problem.find_code(TWICE)
    assert found is not None and code in found
    assert problem.extractor == f"{block}-block/2"


def test_a_prefilled_answer_has_one_block() -> None:
    with pytest.raises(ValidationError, match="block: last needs prompt: own"):
        EvalSettings(prompt="qwen", block="last")


def test_no_form_has_more_stops_than_an_endpoint_takes() -> None:
    for form in FORMS.values():
        for more in (HEAD_STOPS, DOCSTRING_STOPS) if form.key == "raw" else ((),):
            Sampler(0.0, 1.0, 1, (), (*form.stop, *more))
    with pytest.raises(ValueError, match="5 stops; an endpoint takes 4"):
        Sampler(0.0, 1.0, 1, (), ("a", "b", "c", "d", "e"))
