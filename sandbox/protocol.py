"""Frames on every wire of the sandbox; shared by host and guest.

A frame is a four-byte big-endian length and that many bytes of JSON (``docs/sandbox-protocol.md``);
``sandbox/values.py`` says how values are written in it. Runs on Python 3.9 and newer with the
standard library only, because the guest imports it.
"""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate
from typing import Any

VERSION = 1
MAX_FRAME = 64 * 1024 * 1024
# A value is 100 deep at most and takes up to four brackets a level; Python reads about a thousand.
MAX_NESTING = 440
_STRING = re.compile(rb'"[^"]*"?')  # one pass whatever it is given: an open one ends with the text
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {91: 1, 123: 1, 93: -1, 125: -1}

Json = Any


class ProtocolError(ValueError):
    """Bytes that are no valid frame or value of this protocol."""


def pack(message: Json) -> bytes:
    """Return one frame that holds ``message``."""
    return frame(json.dumps(message, separators=(",", ":")).encode("ascii"))


def frame(body: bytes) -> bytes:
    """Return ``body`` with its length before it; raises ProtocolError over the size cap."""
    if len(body) > MAX_FRAME:
        raise ProtocolError(f"a frame of {len(body)} bytes is over the cap of {MAX_FRAME}")
    return len(body).to_bytes(4, "big") + body


def loads(body: bytes, nesting: int = MAX_NESTING) -> Json:
    """Decode a frame's JSON, strictly: no NaN, no huge number, no doubled key, no deep nesting."""
    if body.count(b"[") + body.count(b"{") > nesting:
        bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
        brackets = _STRING.sub(b"", bare).translate(None, _NOT_BRACKETS)
        if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > nesting:
            raise ProtocolError(f"nested deeper than {nesting}")
    try:
        return json.loads(
            body.decode("ascii"),
            parse_constant=_refuse,
            parse_float=_float,
            object_pairs_hook=_unique,
            parse_int=_int,
        )
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not a frame: {error}") from None


def _refuse(name: str) -> Any:
    raise ProtocolError(f"{name} is not a JSON value")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):  # it would be written again as a word that JSON doesn't have
        raise ProtocolError("a number too large to be one")
    return number


def _int(digits: str) -> int:
    if len(digits) > 20:
        raise ProtocolError("an integer this long must be tagged")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ProtocolError("a key stands twice in one object")
    return made


class FrameReader:
    """Cuts a byte stream into frame bodies; feed it what arrives, take what is complete."""

    def __init__(self, cap: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._cap = cap

    def feed(self, data: bytes) -> list[bytes]:
        """Add ``data`` and return the bodies completed by it; raises ProtocolError over the cap."""
        self._buffer += data
        bodies = []
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if size > self._cap:
                raise ProtocolError(f"a frame of {size} bytes is over the cap of {self._cap}")
            if len(self._buffer) < 4 + size:
                break
            bodies.append(bytes(self._buffer[4 : 4 + size]))
            del self._buffer[: 4 + size]
        return bodies

    @property
    def pending(self) -> int:
        """Bytes of an unfinished frame."""
        return len(self._buffer)
