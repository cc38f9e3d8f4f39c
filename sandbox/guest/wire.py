"""Blocking frames on a socket, for the driver and the tester."""

from __future__ import annotations

import os
from typing import Any

from sandbox import protocol


class Closed(Exception):
    """The other end is gone."""


class Wire:
    """One end of a stream of frames; one that is longer than ``cap`` is a bad one."""

    def __init__(self, descriptor: int, cap: int = protocol.MAX_FRAME) -> None:
        self._descriptor = descriptor
        self._cap = cap

    def send(self, message: Any) -> None:
        """Write one frame; raises Closed when nobody reads any more."""
        view = memoryview(protocol.pack(message))
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BrokenPipeError:
                raise Closed from None
            except ConnectionResetError:
                raise Closed from None

    def receive(self) -> Any:
        """Read one frame; raises Closed at the end of the stream, ProtocolError for a bad one."""
        size = int.from_bytes(self._exactly(4), "big")
        if size > self._cap:
            raise protocol.ProtocolError(f"a frame of {size} bytes")
        return protocol.loads(self._exactly(size))

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            try:
                part = os.read(self._descriptor, min(size, 1 << 20))
            except ConnectionResetError:
                raise Closed from None
            if not part:
                raise Closed
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
