"""Values on the wires of the sandbox: their plain form and back; shared by host and guest.

A value is plain JSON, or an object with one key that starts with ``$`` for what JSON can't say
(``docs/sandbox-protocol.md``). Types are exact: a subclass of ``int`` is not an int here, so no
object with code of its own crosses. Runs on Python 3.9 and newer with the standard library only,
because the guest imports it.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import math
from collections.abc import Callable
from typing import Any, cast

from sandbox.protocol import Json, ProtocolError

MAX_VALUE_BYTES = 8 * 1024 * 1024
MAX_PROGRAM_FRAME = MAX_VALUE_BYTES + 65536
"""Of a frame that a program writes: a value, and what is said of it."""
MAX_DEPTH = 100
MAX_NODES = 1_000_000
MAX_DRAIN = 100_000
_SMALL_INT = 1 << 62
MAX_TERM_BITS = 1 << 17
MAX_NAMEDTUPLES, MAX_FIELDS = 256, 1000

ToRef = Callable[[Any], Any]
FromRef = Callable[[Json], Any]


class Uncrossable(ValueError):
    """A value that has no exact plain form."""


# --------------------------------------------------------------------------------------- encode

_FACTORIES: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "list": list,
    "dict": dict,
    "set": set,
    "tuple": tuple,
    "bool": bool,
}
_FACTORY_NAMES = {id(factory): name for name, factory in _FACTORIES.items()}
_ITERATORS: tuple[type, ...] = tuple(
    type(sample)
    for sample in cast(
        "tuple[Any, ...]",
        (
            iter([]),
            iter(()),
            iter({}),
            iter({}.values()),
            iter({}.items()),
            iter(set()),
            iter(range(0)),
            iter(range(1 << 70)),
            iter(""),
            iter("\u0100"),
            iter(b""),
            iter(collections.deque()),
            reversed([]),
            reversed(range(0)),
            (_ for _ in ()),
            map(id, ()),
            filter(None, ()),
            zip(),
            enumerate(()),
        ),
    )
)


def encode(value: Any, to_ref: ToRef | None = None) -> Json:
    """Return the wire form of ``value``.

    ``to_ref`` may turn an object that isn't plain into the payload of a ``$ref``; it returns None
    to decline. Raises Uncrossable for anything else, for a cycle, and for what is too deep or too
    big.
    """
    return _Encoder(to_ref).any(value, 0)


class _Encoder:
    def __init__(self, to_ref: ToRef | None) -> None:
        self._to_ref = to_ref
        self._nodes = 0
        self._bytes = 0

    def _size(self, value: Any) -> Any:
        self._bytes += len(value)
        if self._bytes > MAX_VALUE_BYTES:
            raise Uncrossable(f"more than {MAX_VALUE_BYTES} bytes")
        return value

    def any(self, value: Any, depth: int) -> Json:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise Uncrossable(f"more than {MAX_NODES} values")
        if depth > MAX_DEPTH:
            raise Uncrossable(f"nested deeper than {MAX_DEPTH} or cyclic")
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -_SMALL_INT < value < _SMALL_INT else {"$int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"$float": repr(value)}
        if kind is str:
            return _encode_str(self._size(value))
        if kind is list:
            return [self.any(item, depth + 1) for item in value]
        if kind is dict:
            return self._dict(value, depth)
        if kind is tuple:
            return {"$tuple": self._items(value, depth)}
        encoder = _BY_TYPE.get(kind)
        if encoder is not None:
            return encoder(self, value, depth)
        if kind in _ITERATORS:
            return {"$iter": self._drain(value, depth)}
        if _is_namedtuple(kind):
            names = list(kind._fields)
            return {
                "$namedtuple": [kind.__name__, names, self._items(tuple.__iter__(value), depth)]
            }
        if self._to_ref is not None:
            reference = self._to_ref(value)
            if reference is not None:
                return {"$ref": reference}
        raise Uncrossable(f"a value of type {kind.__name__} has no plain form")

    def _items(self, items: Any, depth: int) -> list[Json]:
        return [self.any(item, depth + 1) for item in items]

    def _drain(self, iterator: Any, depth: int) -> list[Json]:
        items: list[Json] = []
        for item in iterator:
            if len(items) >= MAX_DRAIN:
                raise Uncrossable(f"an iterator of more than {MAX_DRAIN} items")
            items.append(self.any(item, depth + 1))
        return items

    def _pairs(self, mapping: dict[Any, Any], depth: int) -> list[Json]:
        return [
            [self.any(key, depth + 1), self.any(item, depth + 1)]
            for key, item in dict.items(mapping)
        ]

    def _dict(self, value: dict[Any, Any], depth: int) -> Json:
        for key in value:
            if type(key) is not str or key[:1] == "$" or not _is_clean(key):
                return {"$dict": self._pairs(value, depth)}
        return {key: self.any(item, depth + 1) for key, item in value.items()}


def _is_clean(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _encode_str(value: str) -> Json:
    # Two lone surrogates side by side would be joined by a JSON decoder.
    return value if _is_clean(value) else {"$str": value.encode("utf-8", "surrogatepass").hex()}


def _is_namedtuple(kind: type) -> bool:
    return (
        kind.__bases__ == (tuple,)
        and type(getattr(kind, "_fields", None)) is tuple
        and kind.__dict__.get("__slots__") == ()
        and "__eq__" not in kind.__dict__
        and "__iter__" not in kind.__dict__
    )


_FOLD = ";fold"  # the second of two equal hours, which ISO 8601 can't say


def _offset(moment: Any) -> None:
    if moment.tzinfo is not None and type(moment.tzinfo) is not datetime.timezone:
        raise Uncrossable("a time with a time zone other than a fixed offset")


def _encode_datetime(_: _Encoder, value: Any, __: int) -> Json:
    _offset(value)
    return {"$datetime": value.isoformat() + _FOLD * value.fold}


def _encode_time(_: _Encoder, value: Any, __: int) -> Json:
    _offset(value)
    return {"$time": value.isoformat() + _FOLD * value.fold}


def _encode_defaultdict(encoder: _Encoder, value: Any, depth: int) -> Json:
    factory = value.default_factory
    name = None if factory is None else _FACTORY_NAMES.get(id(factory))
    if factory is not None and name is None:
        name = ""  # a factory of the program's own can't cross; the contents can
    return {"$defaultdict": [name, encoder._pairs(value, depth)]}


_BY_TYPE: dict[type, Callable[[_Encoder, Any, int], Json]] = {
    set: lambda e, v, d: {"$set": e._items(v, d)},
    frozenset: lambda e, v, d: {"$frozenset": e._items(v, d)},
    bytes: lambda e, v, d: {"$bytes": e._size(v).hex()},
    bytearray: lambda e, v, d: {"$bytearray": e._size(v).hex()},
    complex: lambda e, v, d: {"$complex": [e.any(v.real, d + 1), e.any(v.imag, d + 1)]},
    range: lambda e, v, d: {"$range": [e.any(n, d + 1) for n in (v.start, v.stop, v.step)]},
    type({}.keys()): lambda e, v, d: {"$keys": e._items(v, d)},
    type({}.values()): lambda e, v, d: {"$values": e._items(v, d)},
    type({}.items()): lambda e, v, d: {"$items": e._items(v, d)},
    decimal.Decimal: lambda e, v, d: {"$decimal": str(v)},
    fractions.Fraction: lambda e, v, d: {
        "$fraction": [e.any(v.numerator, d + 1), e.any(v.denominator, d + 1)]
    },
    datetime.datetime: _encode_datetime,
    datetime.date: lambda e, v, d: {"$date": v.isoformat()},
    datetime.time: _encode_time,
    datetime.timedelta: lambda e, v, d: {"$timedelta": [v.days, v.seconds, v.microseconds]},
    collections.Counter: lambda e, v, d: {"$counter": e._pairs(v, d)},
    collections.OrderedDict: lambda e, v, d: {"$ordereddict": e._pairs(v, d)},
    collections.deque: lambda e, v, d: {"$deque": [v.maxlen, e._items(v, d)]},
    collections.defaultdict: _encode_defaultdict,
}


# --------------------------------------------------------------------------------------- decode


def decode(wire: Json, from_ref: FromRef | None = None) -> Any:
    """Return the value that ``wire`` says; raises ProtocolError for anything else.

    Raises Uncrossable for a set or a dict whose keys were chosen to cost their square.
    """
    try:
        return _Decoder(from_ref).any(wire, 0)
    except (ProtocolError, Uncrossable):
        raise
    except (TypeError, ValueError, KeyError, ArithmeticError, RecursionError) as error:
        raise ProtocolError(f"not a value: {type(error).__name__}: {error}") from None


class _Decoder:
    def __init__(self, from_ref: FromRef | None) -> None:
        self._from_ref = from_ref
        self._nodes = 0
        self.namedtuples: dict[tuple[str, ...], Any] = {}

    def any(self, wire: Json, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > 2 * MAX_NODES:
            raise ProtocolError(f"more than {2 * MAX_NODES} values")
        if depth > 2 * MAX_DEPTH:
            raise ProtocolError(f"nested deeper than {2 * MAX_DEPTH}")
        kind = type(wire)
        if kind is list:
            return [self.any(item, depth + 1) for item in wire]
        if kind is not dict:
            return wire
        if len(wire) == 1:
            ((tag, payload),) = wire.items()
            if tag[:1] == "$":
                if tag == "$ref" and self._from_ref is not None:
                    return self._from_ref(payload)
                decoder = _BY_TAG.get(tag)
                if decoder is None:
                    raise ProtocolError(f"unknown tag {tag!r}")
                return decoder(self, payload, depth)
        made = {}
        for key, item in wire.items():
            if key[:1] == "$":
                raise ProtocolError(f"the key {key!r} must stand in a $dict")
            made[key] = self.any(item, depth + 1)
        return made

    def items(self, payload: Any, depth: int) -> list[Any]:
        if type(payload) is not list:
            raise ProtocolError("a list is expected")
        return [self.any(item, depth + 1) for item in payload]

    def pairs(self, payload: Any, depth: int) -> list[tuple[Any, Any]]:
        made = []
        for pair in self.items(payload, depth):
            if type(pair) is not list or len(pair) != 2:
                raise ProtocolError("a pair is expected")
            made.append((pair[0], pair[1]))
        return made


def _spread(keys: list[Any]) -> list[Any]:
    # Keys that all hash alike would cost their square: refuse them before they meet a table.
    if len(keys) > 1000:
        (_, most), *_rest = collections.Counter(map(hash, keys)).most_common(1)
        if most > 1000:
            raise Uncrossable("too many keys with one hash")
    return keys


def _spread_pairs(pairs: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    _spread([key for key, _ in pairs])
    return pairs


def _text(payload: Any) -> str:
    if type(payload) is not str:
        raise ProtocolError("a string is expected")
    return payload


def _decode_int(_: _Decoder, payload: Any, __: int) -> int:
    return int(_text(payload), 16)


def _decode_float(_: _Decoder, payload: Any, __: int) -> float:
    if payload not in ("nan", "inf", "-inf"):
        raise ProtocolError("a $float is nan, inf or -inf")
    return float(payload)


def _decode_complex(decoder: _Decoder, payload: Any, depth: int) -> complex:
    real, imaginary = decoder.items(payload, depth)
    return complex(_number(real), _number(imaginary))


def _number(value: Any) -> Any:
    if type(value) not in (int, float):
        raise ProtocolError("a number is expected")
    return value


def _decode_range(decoder: _Decoder, payload: Any, depth: int) -> range:
    start, stop, step = decoder.items(payload, depth)
    return range(start, stop, step)


def _decode_decimal(_: _Decoder, payload: Any, __: int) -> decimal.Decimal:
    return decimal.Decimal(_text(payload))


def _decode_fraction(decoder: _Decoder, payload: Any, depth: int) -> fractions.Fraction:
    numerator, denominator = decoder.items(payload, depth)
    if type(numerator) is not int or type(denominator) is not int:
        raise ProtocolError("a fraction's terms are integers")  # a text may stand for 10 ** (10**9)
    if max(numerator.bit_length(), denominator.bit_length()) > MAX_TERM_BITS:
        raise Uncrossable("a fraction of very long terms")  # reducing it costs their square
    return fractions.Fraction(numerator, denominator)


def _decode_timedelta(decoder: _Decoder, payload: Any, depth: int) -> datetime.timedelta:
    days, seconds, microseconds = decoder.items(payload, depth)
    return datetime.timedelta(days, seconds, microseconds)


def _moment(kind: Any, payload: Any) -> Any:
    text = _text(payload)
    if text.endswith(_FOLD):
        return kind.fromisoformat(text[: -len(_FOLD)]).replace(fold=1)
    return kind.fromisoformat(text)


def _decode_deque(decoder: _Decoder, payload: Any, depth: int) -> Any:
    maxlen, items = payload
    return collections.deque(decoder.items(items, depth), maxlen)


def _decode_defaultdict(decoder: _Decoder, payload: Any, depth: int) -> Any:
    name, pairs = payload
    factory = _FACTORIES[name] if name else None
    return collections.defaultdict(factory, _spread_pairs(decoder.pairs(pairs, depth)))


def _decode_counter(decoder: _Decoder, payload: Any, depth: int) -> Any:
    counter: Any = collections.Counter()
    for key, count in _spread_pairs(decoder.pairs(payload, depth)):
        dict.__setitem__(counter, key, count)
    return counter


def _decode_namedtuple(decoder: _Decoder, payload: Any, depth: int) -> Any:
    name, fields, values = payload
    key = (_text(name), *map(_text, fields))
    if key not in decoder.namedtuples:
        # Each is a class, made by compiling a line.
        if len(decoder.namedtuples) >= MAX_NAMEDTUPLES or len(key) > MAX_FIELDS:
            raise Uncrossable("too many kinds of named tuples")
        try:
            kind = collections.namedtuple(key[0], key[1:], rename=True)  # type: ignore[misc]
        except SyntaxError:  # two spellings of one name
            raise ProtocolError("a named tuple with a doubled field") from None
        decoder.namedtuples[key] = kind
    return decoder.namedtuples[key](*decoder.items(values, depth))


_BY_TAG: dict[str, Callable[[_Decoder, Any, int], Any]] = {
    "$int": _decode_int,
    "$float": _decode_float,
    "$str": lambda c, p, d: bytes.fromhex(_text(p)).decode("utf-8", "surrogatepass"),
    "$bytes": lambda c, p, d: bytes.fromhex(_text(p)),
    "$bytearray": lambda c, p, d: bytearray.fromhex(_text(p)),
    "$complex": _decode_complex,
    "$tuple": lambda c, p, d: tuple(c.items(p, d)),
    "$set": lambda c, p, d: set(_spread(c.items(p, d))),
    "$frozenset": lambda c, p, d: frozenset(_spread(c.items(p, d))),
    "$dict": lambda c, p, d: dict(_spread_pairs(c.pairs(p, d))),
    "$keys": lambda c, p, d: dict.fromkeys(_spread(c.items(p, d))).keys(),
    "$values": lambda c, p, d: dict(enumerate(c.items(p, d))).values(),
    "$items": lambda c, p, d: dict(_spread_pairs(c.items(p, d))).items(),
    "$iter": lambda c, p, d: iter(c.items(p, d)),
    "$range": _decode_range,
    "$decimal": _decode_decimal,
    "$fraction": _decode_fraction,
    "$datetime": lambda c, p, d: _moment(datetime.datetime, p),
    "$date": lambda c, p, d: datetime.date.fromisoformat(_text(p)),
    "$time": lambda c, p, d: _moment(datetime.time, p),
    "$timedelta": _decode_timedelta,
    "$counter": _decode_counter,
    "$ordereddict": lambda c, p, d: collections.OrderedDict(_spread_pairs(c.pairs(p, d))),
    "$deque": _decode_deque,
    "$defaultdict": _decode_defaultdict,
    "$namedtuple": _decode_namedtuple,
}
