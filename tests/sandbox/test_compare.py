"""Comparison is Python's ``==`` on plain values; tolerance and order only where the test asks."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

import pytest

from sandbox import TaskError
from sandbox.compare import Compare, equal, equal_output, parse_compare

NAN = float("nan")


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        (1, 1.0, True),
        (True, 1, True),
        ([1, 2], (1, 2), False),
        ([1, [NAN]], [1, [NAN]], True),
        ({"a": NAN}, {"a": NAN}, True),
        (0.1 + 0.2, 0.3, False),
        ("1", 1, False),
        (None, False, False),
        ({1, 2}, {2, 1}, True),
        (Counter("aa"), {"a": 2}, True),
        (OrderedDict(a=1), {"a": 1}, True),
        (OrderedDict(b=2, a=1), OrderedDict(a=1, b=2), False),
        (OrderedDict(b=2, a=1), {"a": 1, "b": 2}, True),
        ([1, 2], [2, 1], False),
        (10**400, 1e300, False),
        (iter([1]), [1], False),
    ],
)
def test_plain(actual: Any, expected: Any, same: bool) -> None:
    assert equal(actual, expected, Compare()) is same


def test_tolerance_only_where_floats_meet() -> None:
    how = Compare(abs=1e-6)
    assert equal([0.1 + 0.2], [0.3], how)
    assert equal({"x": (0.3000001, "a")}, {"x": (0.3, "a")}, how)
    assert equal(2.0000001, 2, how)
    assert not equal(10**9 + 1, 10**9, Compare(rel=1e-3))
    assert equal(complex(0.1 + 0.2, 1), complex(0.3, 1), how)


def test_order() -> None:
    assert equal([[2], [1]], [[1], [2]], Compare(order="multiset"))
    assert not equal([1, 1, 2], [1, 2, 2], Compare(order="multiset"))
    assert equal([1, 1, 2], [1, 2, 2], Compare(order="set"))
    assert not equal([1], [1, 2], Compare(order="set"))
    assert not equal((1, 2), [2, 1], Compare(order="set"))


def test_output() -> None:
    assert equal_output("a \nb\n\n", "a\nb", Compare())
    assert not equal_output("a", "a\nb", Compare())
    assert not equal_output(" a", "a", Compare())
    assert equal_output("x 0.30000001", "x 0.3", Compare(abs=1e-6))
    assert equal_output("+7 0.5", "7 0.50000001", Compare(rel=1e-6))
    assert not equal_output("1000000008 0.5", "1000000007 0.5", Compare(rel=1e-6))
    assert not equal_output("12345678901234567891", "12345678901234567890", Compare(abs=1e-6))
    assert not equal_output("x 0.30000001", "x 0.3", Compare())


@pytest.mark.parametrize("bad", [{"abs": "x"}, {"abs": -1}, {"order": "bag"}, {"tol": 1}, 3])
def test_bad_compare_is_refused(bad: Any) -> None:
    with pytest.raises(TaskError, match="compare"):
        parse_compare(bad)
