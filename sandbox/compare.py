"""Whether a value is the expected one: Python's ``==`` on exact plain types, on the host."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

from sandbox import protocol, values
from sandbox.errors import TaskError

ORDERS = ("list", "set", "multiset")
_NUMBERS = (int, float, complex)
_WHOLE = re.compile(r"[+-]?[0-9]+")


@dataclasses.dataclass(frozen=True)
class Compare:
    """How a task compares: tolerances where floats meet, and whether the outer order counts."""

    abs: float = 0.0
    rel: float = 0.0
    order: str = "list"


def parse_compare(value: Any) -> Compare:
    """Read a task's ``compare`` object; raises TaskError naming the key."""
    if value is None:
        return Compare()
    if not isinstance(value, Mapping):
        raise TaskError(f"tests.compare: an object is expected, not {type(value).__name__}")
    unknown = sorted(set(value) - {"abs", "rel", "order"})
    if unknown:
        raise TaskError(f"tests.compare: {unknown[0]!r} is unknown; known are abs, rel, order")
    for name in ("abs", "rel"):
        number = value.get(name, 0.0)
        if type(number) not in (int, float) or not 0 <= number < math.inf:
            raise TaskError(f"tests.compare.{name}: {number!r} is not a number from zero up")
    order = value.get("order", "list")
    if order not in ORDERS:
        raise TaskError(f"tests.compare.order: {order!r} is not one of {', '.join(ORDERS)}")
    return Compare(float(value.get("abs", 0.0)), float(value.get("rel", 0.0)), order)


def equal(actual: Any, expected: Any, how: Compare) -> bool:
    """Whether ``actual`` is what the test expects.

    Args:
        actual: a decoded value, so of exact plain types all the way down.
        expected: the test's value.
        how: tolerances and order; ``set`` and ``multiset`` apply to the outermost sequence only.
    """
    if how.order != "list" and _is_sequence(actual) and _is_sequence(expected):
        return type(actual) is type(expected) and _unordered(list(actual), list(expected), how)
    return _same(actual, expected, how)


def _is_sequence(value: Any) -> bool:
    return type(value) in (list, tuple)


def _unordered(actual: list[Any], expected: list[Any], how: Compare) -> bool:
    if how.order == "set":
        actual = _distinct(actual)  # one value a million times would be looked for a million times
        return _all_in(actual, expected, how) and _all_in(expected, actual, how)
    if len(actual) != len(expected):
        return False
    left = list(expected)
    for item in actual:
        index = next((i for i, other in enumerate(left) if _same(item, other, how)), None)
        if index is None:
            return False
        del left[index]
    return True


def _distinct(items: list[Any]) -> list[Any]:
    return list({protocol.pack(values.encode(item)): item for item in items}.values())


def _all_in(items: list[Any], others: list[Any], how: Compare) -> bool:
    return all(any(_same(item, other, how) for other in others) for item in items)


def _same(actual: Any, expected: Any, how: Compare) -> bool:
    if isinstance(actual, _NUMBERS) and isinstance(expected, _NUMBERS):
        return _same_number(actual, expected, how)
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        return _same_mapping(actual, expected, how)
    for kind in (list, tuple):
        if isinstance(actual, kind) and isinstance(expected, kind):
            return len(actual) == len(expected) and all(
                _same(a, e, how) for a, e in zip(actual, expected, strict=True)
            )
    return bool(actual == expected)


def _same_mapping(actual: Mapping[Any, Any], expected: Mapping[Any, Any], how: Compare) -> bool:
    if isinstance(actual, Counter) and isinstance(expected, Counter):
        return bool(actual == expected)  # a missing count is zero
    ordered = isinstance(actual, OrderedDict) and isinstance(expected, OrderedDict)
    if ordered and list(actual) != list(expected):
        return False
    if len(actual) != len(expected):
        return False
    return all(key in actual and _same(actual[key], value, how) for key, value in expected.items())


def _same_number(actual: Any, expected: Any, how: Compare) -> bool:
    if actual == expected:
        return True
    if isinstance(actual, complex) or isinstance(expected, complex):
        a, e = complex(actual), complex(expected)
        if not isinstance(actual, complex) and not isinstance(expected, complex):
            return False
        return _close(a.real, e.real, how) and _close(a.imag, e.imag, how)
    if not isinstance(actual, float) and not isinstance(expected, float):
        return False
    return _close(actual, expected, how)


def _close(actual: Any, expected: Any, how: Compare) -> bool:
    try:
        a, e = float(actual), float(expected)
    except OverflowError:
        return False
    if math.isnan(a) or math.isnan(e):
        return math.isnan(a) and math.isnan(e)
    return a == e or math.isclose(a, e, rel_tol=how.rel, abs_tol=how.abs)


def equal_output(actual: str, expected: str, how: Compare) -> bool:
    """Whether a program's output is the expected one.

    Spaces at the end of a line and blank lines at the end don't count. With a tolerance, words that
    both read as numbers are compared as numbers.
    """
    mine, theirs = _lines(actual), _lines(expected)
    if mine == theirs:
        return True
    if not (how.abs or how.rel) or len(mine) != len(theirs):
        return False
    return all(_same_words(a.split(), e.split(), how) for a, e in zip(mine, theirs, strict=True))


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _same_words(actual: list[str], expected: list[str], how: Compare) -> bool:
    if len(actual) != len(expected):
        return False
    return all(a == e or _close_words(a, e, how) for a, e in zip(actual, expected, strict=True))


def _close_words(actual: str, expected: str, how: Compare) -> bool:
    try:
        if _WHOLE.fullmatch(actual) and _WHOLE.fullmatch(expected):
            return int(actual) == int(expected)
        return _close(float(actual), float(expected), how)
    except ValueError:
        return False
