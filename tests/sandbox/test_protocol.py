"""The codec: everything plain crosses exactly, nothing else does, whatever the bytes."""

from __future__ import annotations

import collections
import contextlib
import datetime
import decimal
import enum
import fractions
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import protocol, values

HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(alphabet=st.characters(codec=None), max_size=20),
    st.binary(max_size=20),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.complex_numbers(allow_nan=False),
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.sets(HASHABLE, max_size=5),
        st.frozensets(HASHABLE, max_size=5),
        st.dictionaries(HASHABLE, inner, max_size=5),
        st.dictionaries(HASHABLE, inner, max_size=3).map(collections.OrderedDict),
        st.lists(HASHABLE, max_size=5).map(collections.Counter),
        st.lists(inner, max_size=3).map(collections.deque),
    )


VALUES = st.recursive(HASHABLE, _containers, max_leaves=20)


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return type(value), sorted((repr(k), _types(v)) for k, v in value.items())
    if isinstance(value, list | tuple | collections.deque):
        return type(value), [_types(item) for item in value]
    if isinstance(value, set | frozenset):
        return type(value), sorted(repr(item) for item in value)
    return type(value), repr(value)


def _cross(value: Any) -> Any:
    (body,) = protocol.FrameReader().feed(protocol.pack(values.encode(value)))
    return values.decode(protocol.loads(body))


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_plain_values_cross_exactly(value: Any) -> None:
    got = _cross(value)
    assert got == value
    assert _types(got) == _types(value)


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        "\ud83d\ude00",
        "\ud800",
        10**6000,
        -(10**30),
        float("inf"),
        float("-inf"),
        -0.0,
        range(3, 20, 2),
        bytearray(b"x"),
        Point(1, [2]),
        collections.defaultdict(list, {"a": [1]}),
        collections.deque([1, 2], maxlen=3),
        {"$tuple": 1, "$x": 2},
        {(1, 2): {3}},
        {True: 1, 2: 0},
        datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_values_cross(value: Any) -> None:
    got = _cross(value)
    assert got == value
    if type(value).__name__ == "Point":
        assert type(got).__name__ == "Point"
        assert got.y == [2]
    else:
        assert type(got) is type(value)


def test_nan_and_minus_zero_keep_their_kind() -> None:
    assert math.isnan(_cross(float("nan")))
    assert math.copysign(1, _cross(-0.0)) == -1


def test_iterators_cross_drained() -> None:
    assert list(_cross(x * 2 for x in range(3))) == [0, 2, 4]
    assert list(_cross(map(str, [1]))) == ["1"]
    assert _cross({"a": 1}.keys()) == {"a"}


class _Color(enum.IntEnum):
    RED = 1


class _Lie(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


class _List(list[int]):
    pass


@pytest.mark.parametrize(
    "value", [_Color.RED, _Lie(1), _List(), object(), print, {"a": _Lie(2)}, type, iter(int, 1)]
)
def test_anything_else_cannot_cross(value: Any) -> None:
    with pytest.raises(values.Uncrossable):
        values.encode(value)


def test_too_much_cannot_cross() -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    deep: list[Any] = []
    for _ in range(values.MAX_DEPTH + 2):
        deep = [deep]
    for value in (cyclic, deep, ["x" * 1000] * 10000, [0] * (values.MAX_NODES + 1)):
        with pytest.raises(values.Uncrossable):
            values.encode(value)


@pytest.mark.parametrize(
    "body",
    [
        b"NaN",
        b'{"a":1,"a":2}',
        b"[1",
        b"\xff",
        b"9" * 50,
        b"[" * 100000,
    ],
)
def test_bad_json_is_refused(body: bytes) -> None:
    with pytest.raises(protocol.ProtocolError):
        protocol.loads(body)


@pytest.mark.parametrize(
    "wire",
    [
        {"$pickle": "x"},
        {"$ref": [0, ""]},
        {"$set": [[1]]},
        {"$int": 5},
        {"$float": "1.5"},
        {"$dict": [[1]]},
        {"$dict": 3},
        {"$namedtuple": [1, 2, 3]},
        {"$range": [1, 2, 0]},
        {"$decimal": "x"},
        {"$defaultdict": ["eval", []]},
        {"$deque": []},
        {"$x": 1, "b": 2},
    ],
    ids=str,
)
def test_bad_values_are_refused(wire: Any) -> None:
    with pytest.raises(protocol.ProtocolError):
        values.decode(wire)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted(values._BY_TAG)), inner, min_size=1, max_size=1)
    ),
    max_leaves=15,
)


@given(JSON)
@settings(max_examples=300, deadline=None)
def test_no_wire_value_does_more_than_be_refused(wire: Any) -> None:
    with contextlib.suppress(protocol.ProtocolError, values.Uncrossable):
        values.decode(wire)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_in_any_pieces(data: bytes, step: int) -> None:
    reader = protocol.FrameReader(cap=1000)
    try:
        for start in range(0, len(data), step):
            for body in reader.feed(data[start : start + step]):
                protocol.loads(body)
    except protocol.ProtocolError:
        pass


def test_keys_with_one_hash_are_refused_quickly() -> None:
    keys = [number * ((1 << 61) - 1) for number in range(5000)]
    with pytest.raises(values.Uncrossable):
        values.decode({"$set": [{"$int": hex(key)} for key in keys]})


def test_decimal_keeps_its_exponent() -> None:
    assert str(_cross(decimal.Decimal("1.10"))) == "1.10"
    assert _cross(fractions.Fraction(1, 3)) == fractions.Fraction(1, 3)
