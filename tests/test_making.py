"""Tasks made of instructions and their answers: what fits, what is tried, which tests are kept."""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import RecordingContext
from hypothesis import given
from hypothesis import strategies as some

from align.artifacts import Identity, Row, read_shards
from align.errors import InputError
from align.making import run
from align.making.choosing import choose_calls
from align.making.functions import Unfit, read_function
from align.making.inputs import more_inputs, mutated
from align.making.mutants import mutants
from align.settings import MakeSettings
from align.stage import Output, Summary
from sandbox import Sandbox, parse_task

CLIP = """```python
import math

LIMIT = 10
UNUSED = 3

def clip(values, least):
    '''Clips.'''
    return [min(max(each, least), LIMIT) for each in values if not math.isnan(each)]

numbers = [4, 11, -2]
print(f"So: {clip(numbers, least=1)}")
```"""


def test_a_function_is_read_with_what_it_needs_and_the_calls_that_show_it() -> None:
    function = read_function("Clip numbers.", CLIP)
    assert function.name == "clip"
    assert function.calls == [[[4, 11, -2], 1]]
    scope: dict[str, Any] = {}
    exec(function.code, scope)  # our own text, from above
    assert scope["clip"]([12.0], 1) == [10]
    assert "UNUSED" not in scope and "numbers" not in scope


@pytest.mark.parametrize(
    ("end", "calls"),
    [
        ("[3, 1], 2", [[[3, 1], 2]]),
        ("a = [3], b = 2", [[[3], 2]]),
        ("b=2, a=[3]", [[[3], 2]]),
        ("a few numbers", None),
        ("**{'a': 1}", None),
        ("1, 2, 3", None),
        ("", None),
    ],
)
def test_the_example_may_stand_in_the_question(end: str, calls: Any) -> None:
    answer = "def f(a, b):\n    return a[0] + b"
    if calls is None:
        with pytest.raises(Unfit, match="f called with plain values") as unfit:
            read_function(f"Add.\n\n{end}", answer)
        assert unfit.value.kind == "no_example"
    else:
        assert read_function(f"Add.\n\n{end}", answer).calls == calls


def test_one_parameter_takes_what_the_question_names_otherwise() -> None:
    function = read_function("Reverse it.\n\ntext = 'ab'", "def f(s):\n    return s[::-1]")
    assert function.calls == [["ab"]]


@pytest.mark.parametrize(
    ("question", "answer", "kind"),
    [
        ("Mend this:\n\ndef f(x): retrun x", "def f(x):\n    return x\nf(1)", "about_code"),
        ("What is a list?", "A list is a sequence.", "no_function"),
        ("Two.", "def f(x):\n    return x\ndef g(x):\n    return f(x)\ng(1)", "no_function"),
        ("A class.", "class A:\n    x = 1\ndef f(x):\n    return x\nf(1)", "no_function"),
        ("Print.", "def f(x):\n    print(x)\n    return x\nf(1)", "impure"),
        ("Nothing.", "def f(x):\n    x.sort()\nf([1])", "no_function"),
        ("Inner.", "def f(x):\n    def g():\n        return x\n    g()\nf(1)", "no_function"),
        ("All.", "def f(*x):\n    return x\nf(1)", "no_function"),
        ("None.", "def f():\n    return 1\nf()", "no_function"),
        ("Yield.", "def f(x):\n    yield x\n    return 1\nf(1)", "no_function"),
        (
            "Cache.",
            "import functools\n@functools.cache\ndef f(x):\n    return x\nf(1)",
            "no_function",
        ),
        ("Draw.", "import random\ndef f(x):\n    return random.choice(x)\nf([1])", "impure"),
        ("Now.", "from datetime import date\ndef f(x):\n    return date.today()\nf(1)", "impure"),
        ("Count.", "n = 0\ndef f(x):\n    global n\n    n += x\n    return n\nf(1)", "impure"),
        ("Ask.", "def f(x):\n    return x\nf(int(input()))", "no_example"),
        ("Star.", "def f(x, y):\n    return x\nf(*[1, 2])", "no_example"),
    ],
)
def test_what_no_task_can_be_made_of_is_refused(question: str, answer: str, kind: str) -> None:
    with pytest.raises(Unfit) as unfit:
        read_function(question, answer)
    assert unfit.value.kind == kind


VALUES = some.recursive(
    some.integers(-1000, 1000) | some.booleans() | some.text(max_size=8) | some.none(),
    lambda inner: (
        some.lists(inner, max_size=5) | some.dictionaries(some.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(VALUES, some.integers(0, 1000))
def test_an_input_of_the_same_kind_keeps_what_must_not_change(value: Any, seed: int) -> None:
    other = mutated(value, random.Random(seed))
    assert type(other) is type(value)
    assert repr(mutated(value, random.Random(seed))) == repr(other)
    if isinstance(value, list | str | dict):
        assert bool(other) == bool(value), "what is empty stays so, and what is not, too"
    if isinstance(value, list):
        assert {type(each) for each in other} <= {type(each) for each in value}
        distinct = len(set(map(repr, value))) == len(value)
        assert not distinct or len(set(map(repr, other))) == len(other)
    if type(value) is int and value != 0:
        assert (other > 0) == (value > 0) and other != 0
    if isinstance(value, str):
        assert set(other) <= set(value)


def test_inputs_are_made_from_the_examples_and_are_all_different() -> None:
    calls = [[[5, 3, 8], 2]]
    made = more_inputs(calls, 20, random.Random(1))
    assert made[0] == [[5, 3, 8], 2]
    assert len(made) == 20 == len({repr(each) for each in made})
    assert made == more_inputs(calls, 20, random.Random(1))
    assert calls == [[[5, 3, 8], 2]], "the example is not touched"
    assert more_inputs([[None]], 20, random.Random(1)) == [[None]], "there is no other"


def test_mutants_differ_in_one_place_each() -> None:
    code = "def f(x, y):\n    if x < 3 and (not y):\n        return x + 1\n    return y * 2\n"
    made = mutants(code, 50, random.Random(0))
    assert len(made) == len(set(made)) == 13
    plain = ast.unparse(ast.parse(code))
    for text in made:
        changed = [
            (a, b) for a, b in zip(plain.split("\n"), text.split("\n"), strict=True) if a != b
        ]
        assert len(changed) == 1, text
    joined = "\n".join(made)
    for part in ("x <= 3", "x < 4", "x < 2", "or not y", "+y", "x - 1", "return None", "y + 2"):
        assert part in joined
    assert mutants("def f(x):\n    return x\n", 5, random.Random(0)) == [
        "def f(x):\n    return None"
    ]


def test_the_tests_are_the_calls_that_tell_the_most() -> None:
    failing = [frozenset({0, 1}), frozenset({2}), frozenset({2, 3}), frozenset({4}), frozenset()]
    choice = choose_calls(failing, [0, 1, 2, 3, 4], 3)
    assert list(choice.calls) == [0, 2, 4]
    assert choice.told == pytest.approx(4 / 5)
    assert list(choose_calls(failing, [1, 3], 8).calls) == [1, 3]
    assert choose_calls([], [0, 1], 2).told == 0.0


class SandboxContext(RecordingContext):
    """A context with a real sandbox."""

    @contextmanager
    def sandbox(self) -> Iterator[Sandbox]:
        with Sandbox(engine="namespaces", isolation="ns", workers=2) as box:
            yield box


def row(question: str, code: str, **more: Any) -> Row:
    return {"instruction": question, "input": "", "response": f"```python\n{code}\n```", **more}


def make(folder: Path, *rows: Row, name: str = "out", **settings: Any) -> tuple[Summary, list[Row]]:
    table = folder / "rows.jsonl"
    table.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    out = Output(folder / name, Identity("make", "c"))
    given_settings = MakeSettings.model_validate({"rows": [str(table)], **settings})
    summary = run(given_settings, {"rows.0": table}, out, SandboxContext())
    return summary, list(read_shards(folder / name / "tasks"))


BIG = row(
    "Count the numbers above a limit.",
    "def above(values, limit):\n    return sum(1 for v in values if v > limit)\n"
    "print(above([1, 5, 9], 4))",
    licence="MIT",
)


@pytest.mark.engine
def test_a_task_is_made_whose_tests_refuse_what_is_wrong(tmp_path: Path) -> None:
    summary, (made,) = make(tmp_path, BIG)
    assert summary.counts == {"tasks": 1}
    task = parse_task(made)
    assert made["licence"] == "MIT" and made["entry_point"] == "above"
    (message,) = made["messages"]
    assert message["content"] == (
        "Count the numbers above a limit.\n\nYour code should pass this test:\n\n"
        "```python\nassert above([1, 5, 9], 4) == 2\n```"
    )
    assert 3 <= len(json.loads(made["tests"])["cases"]) <= 8
    with Sandbox(engine="namespaces", isolation="ns", workers=2) as box:
        right = "def above(values, limit):\n    return len([v for v in values if not v <= limit])"
        wrong = "def above(values, limit):\n    return sum(1 for v in values if v >= limit)"
        lies = "class L(int):\n    __eq__ = lambda s, o: True\ndef above(v, l):\n    return L(2)"
        outcomes = [box.run(task, code).outcome for code in (right, wrong, lies)]
    assert outcomes == ["accepted", "wrong_answer", "wrong_answer"]
    again, rows = make(tmp_path, BIG, name="again")
    assert rows == [made] and again.content_sha == summary.content_sha


@pytest.mark.engine
def test_what_gives_no_good_tests_is_left_out_with_its_reason(tmp_path: Path) -> None:
    endless = "def wait(n):\n    while n > 3:\n        pass\n    return n\nwait(5)"
    summary, rows = make(
        tmp_path,
        BIG,
        row("Count them again.", "def Above(v, l):\n    return len(v)\nAbove([1], 2)"),
        row("Count the numbers above a limit.", "def other(v):\n    return len(v)\nother([1])"),
        row("Fail.", "def fails(x):\n    return x[5]\nfails([1])"),
        row("One.", "def same(x):\n    return 7\nsame(3)"),
        row("Order.", "def order(x):\n    return object().__repr__()\norder(3)"),
        row("Out.", "def odd(x):\n    return iter([x])\nodd(3)"),
        row("Wait.", endless),
        row("End.", "def ends(x):\n    return exit_now(x)\nends(3)"),
        row("Weak.", "def deep(x):\n    return x if x != 123456 else x + 1\ndeep(3)"),
        {"instruction": "No answer."},
        row("Turns.", "x = 1") | {"history": [["a", "b"]]},
    )
    assert [made["entry_point"] for made in rows] == ["above"]
    assert summary.counts == {
        **{"tasks": 1, "bad_row": 1, "turns": 1, "double": 2, "one_value": 2},
        **{"fails": 3, "not_shown": 1, "weak_tests": 1},
    }


def test_tables_without_a_row_that_fits_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no row can be made.*rows\.jsonl.*no Python"):
        make(tmp_path, row("What?", "nothing to see"))
