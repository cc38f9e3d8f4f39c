"""A task asked a second time, as a function to complete."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest

from align.data.function_form import function_form
from align.data.literals import as_literal
from align.questions import head_of

REFERENCE = "import math\ndef near(xs, least=0.5):\n    return [x for x in xs if x > least]\n"


def task(
    tests: Any, question: str = "Write a python function to keep what is near.", **more: Any
) -> Any:
    test = "\nYour code should pass this test:\n\n```python\nassert near([1], 0) == [1]\n```"
    return {
        "task_id": "t/1",
        "messages": [{"role": "user", "content": question + test}],
        "prompt": None,
        "entry_point": "near",
        "tests": json.dumps(tests),
        "reference": REFERENCE,
        **more,
    }


def asserts(*lines: str, setup: str = "") -> Any:
    return {"kind": "asserts", "setup": setup, "asserts": list(lines)}


def asked(made: Any) -> str:
    assert made is not None
    (message,) = made["messages"]
    return str(message["content"])


def test_the_question_becomes_the_docstring_of_the_reference_s_head() -> None:
    given = task(asserts("assert near( [1, 2], 1)==[2]", "assert near([], 1) == []"))
    made = function_form(given)
    assert asked(made) == (
        "Complete this function:\n\n```python\n"
        "def near(xs, least=0.5):\n"
        '    """\n'
        "    Keep what is near.\n"
        "\n"
        "    >>> near([1, 2], 1)\n"
        "    [2]\n"
        '    """\n```'
    )
    assert made is not None
    assert made["task_id"] == "t/1/function"
    assert {key: made[key] for key in ("tests", "reference", "entry_point")} == {
        key: given[key] for key in ("tests", "reference", "entry_point")
    }


def test_calls_are_shown_as_code() -> None:
    case = {"args": [{"$tuple": [1, 2]}], "kwargs": {"least": 0}, "expected": {"$set": [1]}}
    made = function_form(task({"kind": "calls", "cases": [case]}, "Count.\nTwice."))
    assert "    Count.\n    Twice.\n\n    >>> near((1, 2), least=0)\n    {1}\n" in asked(made)
    assert made is not None and asked(made).isascii()


def test_sets_are_written_in_one_order() -> None:
    case = {"args": [1], "expected": {"$set": ["c", "a", "b"]}}
    assert "    {'a', 'b', 'c'}\n" in asked(function_form(task({"kind": "calls", "cases": [case]})))
    values = [(1,), {"b": [1.5, None], "a": {2}}, b"x", (), -3, True]
    assert [ast.literal_eval(as_literal(each)) for each in values] == values
    for odd in (float("nan"), set(), 1j, object(), 10**5000):
        with pytest.raises(ValueError, match=r"literal|digits"):
            as_literal([odd])


def test_a_docstring_with_backslashes_is_raw() -> None:
    made = function_form(task(asserts("assert near('a\\n', 1) == '\\\\'")))
    text = asked(made)
    assert '    r"""\n' in text
    body = text.split("```python\n")[1].removesuffix("```") + "    pass\n"
    scope: dict[str, Any] = {}
    exec(body, scope)  # our own text, from above
    assert ">>> near('a\\n', 1)" in scope["near"].__doc__


@pytest.mark.parametrize(
    "given",
    [
        task(asserts("assert near([1], 1) == []", setup="x = 1")),
        task(asserts("assert near([1], 1)")),
        task(asserts("assert far([1], 1) == []")),
        task(asserts("assert near([1], 1) == none()")),
        task(asserts("assert near([1], 1) == None")),
        task(asserts(f"assert near({list(range(200))}, 1) == []")),
        task({"kind": "stdio", "cases": [{"stdin": "", "stdout": "1"}]}),
        task({"kind": "script", "code": "def check(candidate): assert candidate([1], 1) == []"}),
        task(asserts("assert near([1], 1) == []"), "See:\n```\nx\n```"),
        task(asserts("assert near([1], 1) == []"), 'A """ in it'),
        task(asserts("assert near([1], 1) == []"), reference=None),
        task(asserts("assert near([1], 1) == []"), reference="near = len"),
        task(asserts("assert near([1], 1) == []"), reference="def near(:"),
        task(asserts("assert near([1], 1) == []"), reference=f"class A: ...\n{REFERENCE}"),
        task(asserts("assert near([1], 1) == []"), messages=None),
        task(asserts("assert near([1], 1) == []"), reference="def near(xs: List[int], n): ..."),
        task(asserts("assert near([1], 1) == []"), reference="def near(xs, n=LIMIT): ..."),
        task({"kind": "calls", "cases": [{"args": [{"$iter": [1]}], "expected": 1}]}),
        task(None) | {"tests": None},
    ],
)
def test_what_can_not_be_asked_so_is_left_as_it_is(given: Any) -> None:
    assert function_form(given) is None


def test_what_a_base_model_would_complete() -> None:
    given = task(asserts("assert near([1], 1) == []"), "Find the near ones.\nThere are some.")
    made = function_form(given)
    assert made is not None
    head = head_of(made)
    assert head is not None and head.startswith("def near(") and head.endswith('\n    """\n')
    assert asked(made).endswith(f"{head}```")
    test = "assert near([1], 0) == [1]"
    assert head_of(given) == f'"""\nFind the near ones.\nThere are some.\n{test}\n"""\n'
    given["messages"][0]["content"] += "\nBe quick."
    words = "Find the near ones.\nThere are some.\n\n\n\nBe quick."
    assert head_of(given) == f'"""\n{words}\n{test}\n"""\n'
    given["messages"][0]["content"] = "Find the near ones."
    assert head_of(given) == '"""\nFind the near ones.\n"""\n'


@pytest.mark.parametrize(
    "given",
    [
        {"messages": None},
        {"messages": []},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]},
        {"messages": [{"role": "user", "content": 'A """ in it'}]},
        {"messages": [{"role": "user", "content": "Print:\n```\nx\n```"}]},
        {"messages": [{"role": "user", "content": "Find \\x in a text."}]},
    ],
)
def test_what_no_docstring_holds_has_no_head(given: Any) -> None:
    assert head_of(given) is None
