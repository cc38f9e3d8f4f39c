"""Tasks made of instructions and their answers: what fits, what is tried, which tests are kept."""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from align.artifacts import Identity, Row, read_shards
from align.errors import InputError
from align.making import run
from align.making.choosing import choose_calls
from align.making.functions import Unfit, read_function
from align.making.inputs import more_inputs, mutated
from align.making.mutants import mutants
from align.rows import TASK
from align.settings import MakeSettings
from align.stage import Output, Summary
from sandbox import Sandbox, parse_task
from tests.conftest import RecordingContext

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
        ("A set.", "def f(x):\n    return x\nf({1, 2})", "no_example"),
        ("Dots.\n\n[1, 2, ...]", "def f(x):\n    return x", "no_example"),
        ("Data.", "stock = {'a': 1}\ndef f(x):\n    return x in stock\nf('a')", "hidden_data"),
        ("Late.", "v = 'ae'\nv += 'AE'\ndef f(x):\n    return x in v\nf('a')", "hidden_data"),
        ("Kept.", "seen = []\ndef f(x):\n    return seen + [x]\nf(1)", "hidden_data"),
    ],
)
def test_what_no_task_can_be_made_of_is_refused(question: str, answer: str, kind: str) -> None:
    with pytest.raises(Unfit) as unfit:
        read_function(question, answer)
    assert unfit.value.kind == kind


def test_calls_take_as_many_arguments_as_the_one_that_is_shown() -> None:
    answer = "def power(x, n=2):\n    return x ** n\npower(3)\npower(3, 4)\npower(5)"
    assert read_function("Raise.", answer).calls == [[3], [5]]


@pytest.mark.parametrize(
    ("body", "unordered"),
    [
        ("return sorted(set(x))", False),
        ("return len(set(x)) == len(x)", False),
        ("return [e for e in x if e in {1, 2}]", False),
        ("return list(set(x))", True),
        ("return max(set(x), key=x.count)", True),
        ("return [e for e in {*x}]", True),
        ("return ''.join({e for e in x})", True),
        ("return list(x.keys() & x.keys())", True),
        ("return list(x.keys() - x)", True),
        ("return x.union(x)", True),
        ("return list(x.keys())", False),
    ],
)
def test_what_rests_on_the_order_in_a_set_is_known(body: str, unordered: bool) -> None:
    assert read_function("Go.", f"def f(x):\n    {body}\nf([1])").unordered is unordered


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
    if isinstance(value, tuple):
        assert len(other) == len(value)
    if type(value) in (int, float) and value != 0:
        assert (other > 0) == (value > 0) and other != 0
    if isinstance(value, str):
        assert set(other) <= set(value)


@pytest.mark.parametrize(
    ("call", "holds"),
    [
        (([1, 2, 3, 4, 5, 6], 4), lambda x, n: x == sorted(x)),
        (([9, 7, 4],), lambda x: x == sorted(x, reverse=True)),
        (([1, 3, 5], [2, 4, 6]), lambda a, b: [a, b] == [sorted(a), sorted(b)]),
        (([3, 1, 2], [4, 6, 5]), lambda a, b: len(a) == len(b)),
        (("karolin", "kathrin"), lambda a, b: len(a) == len(b)),
        (([[1, 2], [4, 3]],), lambda m: len({len(row) for row in m}) == 1),
        (([[1, 3], [2, 6], [8, 10]],), lambda m: all(row == sorted(row) for row in m)),
        (([3, 1, 2],), lambda x: len(set(x)) == len(x)),
        (("the quick brown fox",), lambda s: s == " ".join(s.split())),
        ((100, 0.05), lambda n, rate: 0 <= rate <= 1),
        (([{"a": 1, "b": 2}, {"a": 3, "b": 4}],), lambda r: all({*d} == {"a", "b"} for d in r)),
        (({"name": "x", "age": 3},), lambda d: {*d} == {"name", "age"}),
    ],
)
def test_inputs_keep_what_the_example_may_imply(call: Any, holds: Callable[..., bool]) -> None:
    for seed in range(5):
        made = more_inputs([call], 24, random.Random(seed))
        assert len(made) > 4
        assert all(holds(*each) for each in made)


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
    returned = dict(enumerate("abcde"))
    choice = choose_calls(failing, returned, 3)
    assert list(choice.calls) == [0, 2, 4]
    assert choice.told == pytest.approx(4 / 5)
    assert list(choose_calls(failing, {1: "a", 3: "b"}, 8).calls) == [1, 3]
    assert choose_calls([], {0: "a", 1: "b"}, 2).told == 0.0


def test_a_program_of_one_value_fails_a_test() -> None:
    failing = [frozenset(range(40))] * 3
    returned = {at: "4" for at in range(40)} | {33: "5", 35: "6", 37: "6"}
    assert list(choose_calls(failing, returned, 4).calls) == [0, 1, 33, 35]


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
    keeps = "def add(item, items=[]):\n    items.append(item)\n    return items\nadd('ab')"
    half = "def half(x):\n    raise ValueError('\\ud800')\n    return x\nhalf(3)"
    deep = f"def deep(x):\n    return {' + '.join(['x'] * 900)}\ndeep(3)"
    summary, rows = make(
        tmp_path,
        BIG,
        row("Count them again.", "def Above(v, l):\n    return len(v)\nAbove([1], 2)"),
        row("Count the numbers above a limit.", "def other(v):\n    return len(v)\nother([1])"),
        row("Fail.", "def fails(x):\n    return x[5]\nfails([1])"),
        row("End.", "def ends(x):\n    return exit_now(x)\nends(3)"),
        row("Wait.", endless),
        row("Half.", half),
        row("One.", "def same(x):\n    return 7\nsame(3)"),
        row("Kept.", keeps),
        row("Unique.", "def unique(x):\n    return list(set(x))\nunique([1, 2, 2, 3])"),
        row("Mode.", "def mode(x):\n    return max(set(x), key=x.count)\nmode([7, 12, 7, 3])"),
        row(
            "Odd.",
            "def some(x):\n    return [0, 1][len(x) % 2]\nsome([('a', {'x': 1}), ('b', {'x': 2})])",
        ),
        row("Photon.", "def photon(f):\n    return 6.626e-34 * f\nphoton(5e14)"),
        row("Inside.", "def inside(f):\n    return [6.6e-34 * f, f + 1, {f}]\ninside(5.5)"),
        row("Out.", "def odd(x):\n    return iter([x])\nodd(3)"),
        row("Long.", f"def last(x):\n    return x[-1] + 1\nlast({list(range(99))})"),
        row("Big.", "def big(x):\n    return 7 ** (9000 + x)\nbig(3)"),
        row("Deep.", deep),
        row("Weak.", "def rare(x):\n    return x if x != 123456 else x + 1\nrare(3)"),
        row("Tiny.", "def pull(m):\n    return 6.674e-11 * m\npull(3)"),
        {"instruction": "No answer."},
        row("Turns.", "x = 1") | {"history": [["a", "b"]]},
    )
    assert [made["entry_point"] for made in rows] == ["above", "some"]
    assert summary.counts == {
        **{"tasks": 2, "near_zero": 3, "bad_row": 1, "turns": 1, "double": 2, "one_value": 1},
        "moody": 2,
        **{"fails": 4, "not_shown": 2, "odd": 1, "weak_tests": 1, "unordered": 2},
    }


@pytest.mark.engine
@pytest.mark.parametrize(
    ("example", "right"),
    [
        (
            "def find(xs, x):\n    low, high = 0, len(xs) - 1\n    while low <= high:\n"
            "        mid = (low + high) // 2\n        if xs[mid] == x:\n            return mid\n"
            "        if xs[mid] < x:\n            low = mid + 1\n        else:\n"
            "            high = mid - 1\n    return -1\nfind([1, 2, 3, 4, 5, 6], 4)",
            "def find(xs, x):\n    return xs.index(x) if x in xs else -1",
        ),
        (
            "def join(a, b):\n    out = []\n    while a and b:\n"
            "        out.append(a.pop(0) if a[0] <= b[0] else b.pop(0))\n"
            "    return out + a + b\njoin([1, 3, 5], [2, 4, 6])",
            "def join(a, b):\n    return sorted(a + b)",
        ),
        (
            "def turn(m):\n    return [list(each) for each in zip(*m)]\nturn([[1, 2], [3, 4]])",
            "def turn(m):\n    return [[r[i] for r in m] for i in range(len(m[0]))]",
        ),
        (
            "def words(s):\n    return len(s.split(' '))\nwords('the quick brown fox')",
            "def words(s):\n    return len(s.split())",
        ),
        (
            "def at(xs, x):\n    return xs.index(x) if x in xs else 'not found'\nat([3, 1, 2], 1)",
            "def at(xs, x):\n    return xs.index(x) if x in xs else -1",
        ),
        (
            "def mean(xs):\n    return sum(xs) / len(xs)\nmean([0.1, 0.2, 0.7, 5000.3])",
            "def mean(xs):\n    return sum(x / len(xs) for x in reversed(xs))",
        ),
    ],
)
def test_what_the_example_leaves_open_refuses_no_other_right_program(
    tmp_path: Path, example: str, right: str
) -> None:
    _, (made,) = make(tmp_path, row("Do it.", example), min_told=0.3)
    with Sandbox(engine="namespaces", isolation="ns", workers=2) as box:
        verdict = box.run(parse_task(made), right)
    assert verdict.outcome == "accepted", verdict.detail


@pytest.mark.engine
@pytest.mark.parametrize(
    ("example", "wrong"),
    [
        (
            "def grow(p, r, n):\n    return round(p * (1 + r) ** n, 2)\ngrow(10000.0, 0.05, 10)",
            "def grow(p, r, n):\n    return p * (1 + r) ** n",
        ),
        ("def half(n):\n    return n // 2\nhalf(1000001)", "def half(n):\n    return n / 2"),
    ],
)
def test_who_does_not_round_is_wrong(tmp_path: Path, example: str, wrong: str) -> None:
    _, (made,) = make(tmp_path, row("Do it.", example), min_told=0.0)
    with Sandbox(engine="namespaces", isolation="ns", workers=2) as box:
        assert box.run(parse_task(made), wrong).outcome == "wrong_answer"


@pytest.mark.engine
def test_a_killed_stage_goes_on_to_the_same_tasks(tmp_path: Path) -> None:
    rows = [BIG, row("Twice.", "def twice(x):\n    return 2 * x\ntwice(3)")]
    whole, made = make(tmp_path, *rows)
    (tmp_path / "cut" / "tasks").mkdir(parents=True)
    with Output(tmp_path / "cut", Identity("make", "c")).table("tasks", TASK, "task_id") as writer:
        writer.add(made[0])
    again, rest = make(tmp_path, *rows, name="cut")
    assert again.content_sha == whole.content_sha
    assert sorted(map(str, rest)) == sorted(map(str, made))


def test_tables_without_a_row_that_fits_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no row can be made.*rows\.jsonl.*no Python"):
        make(tmp_path, row("What?", "nothing to see"))
