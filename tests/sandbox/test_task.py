"""Task rows are checked on the way in, and what is wrong is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox import Limits, TaskError, parse_task

CALLS = {"kind": "calls", "cases": [{"args": [1], "expected": {"$tuple": [1, 2]}}]}


def test_tests_may_be_a_json_string_or_an_object() -> None:
    row = {"task_id": "a", "entry_point": "f"}
    one = parse_task({**row, "tests": CALLS})
    other = parse_task({**row, "tests": json.dumps(CALLS), "limits": '{"cpu_s": 2}'})
    assert one.tests == other.tests
    assert one.tests is not None
    assert one.tests.count == 1
    assert other.limits == Limits(cpu_s=2)
    assert other.limits.wall == 8


def test_a_task_without_tests_is_a_task() -> None:
    messages = [{"role": "user", "content": "x"}]
    assert parse_task({"task_id": "a", "messages": messages, "tests": None}).tests is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"task_id": None}, "task_id"),
        ({"language": "cobol"}, "language"),
        ({"tests": "{"}, "tests"),
        ({"tests": {"kind": "guess"}}, "tests.kind"),
        ({"tests": {"kind": "calls", "cases": []}}, "tests.cases"),
        ({"tests": {"kind": "calls", "cases": [{"args": [1]}]}}, r"tests.cases\[0\]"),
        ({"tests": {"kind": "calls", "cases": [{"args": [{"$no": 1}], "expected": 1}]}}, "args"),
        (
            {"tests": {"kind": "calls", "cases": [{"args": [], "expected": {"$set": 1}}]}},
            "expected",
        ),
        ({"tests": CALLS, "entry_point": None}, "entry_point"),
        ({"tests": {"kind": "script", "code": "def ("}}, "tests.code"),
        ({"tests": {"kind": "asserts", "asserts": [""]}}, r"tests.asserts\[0\]"),
        ({"tests": {"kind": "stdio", "cases": [{"stdin": "x"}]}}, r"tests.cases\[0\]"),
        ({"limits": {"cpu": 1}}, "limits"),
        ({"limits": {"cpu_s": -1}}, "limits.cpu_s"),
        ({"reference": 5}, "reference"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\]"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], field: str) -> None:
    row = {"task_id": "a", "entry_point": "f", "tests": CALLS}
    with pytest.raises(TaskError, match=field):
        parse_task({**row, **change})
