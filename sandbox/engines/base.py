"""What an engine is: it starts slots. And what a slot is: it takes one job at a time."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Mapping
from typing import Any

from sandbox import protocol
from sandbox.engines import bundle
from sandbox.errors import SlotBroken

CONTAINER_NS, CONTAINER, NS = "container+ns", "container", "ns"
LEVELS = (CONTAINER_NS, CONTAINER, NS)

# What the guest itself needs beside a program: supervisor, zygote and tester.
OWN_MB = 128
OWN_PIDS = 32
MAX_PIDS = 512

_START_S = 30.0
# The supervisor says every second that it lives; this is how long a stalled machine may keep it
# silent.
_SILENCE_S = 20.0


class Transport(abc.ABC):
    """The attached standard streams of one slot's first process.

    Attributes:
        events: the first process' descriptor of its control group's events, if it was given one.
    """

    events: int | None = None

    @abc.abstractmethod
    def write(self, data: bytes) -> None:
        """Write all of ``data``; raises SlotBroken."""

    @abc.abstractmethod
    def read(self, timeout: float) -> bytes:
        """Return at least one byte from stdout; raises SlotBroken at the end or too late."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the slot and everything in it, now; may be called twice and from another thread."""

    @abc.abstractmethod
    def set_memory(self, memory_mb: int) -> None:
        """Make the wall around the slot fit a program that may hold this much."""


class Slot:
    """One warm place to run programs in, spoken to in frames."""

    def __init__(self, transport: Transport, nested: bool) -> None:
        self._transport = transport
        self._reader = protocol.FrameReader()
        self._bodies: list[bytes] = []
        self._jobs = 0
        try:
            transport.write(bundle.sources())
            transport.write(protocol.pack({"nested": nested, "events": transport.events}))
            hello = self._receive(_START_S)
        except BaseException:
            transport.close()
            raise
        if hello.get("op") != "hello" or hello.get("version") != protocol.VERSION:
            transport.close()
            raise SlotBroken(f"the slot greeted with {hello!r:.200}")
        self.python = str(hello.get("python"))

    def call(
        self,
        job: Mapping[str, Any],
        keep: Callable[[int, Any], Any] = lambda _, report: report,
    ) -> dict[str, Any]:
        """Run one job and return the supervisor's reply, of each test what ``keep`` makes of it.

        Raises:
            SlotBroken: there is no reply.
        """
        self._jobs += 1
        self._transport.set_memory(job["limits"]["memory_mb"])
        self._transport.write(protocol.pack({**job, "id": self._jobs}))
        tests: list[Any] = []
        while True:
            reply = self._receive(_SILENCE_S)
            if reply.get("op") == "alive":
                continue
            if reply.get("id") != self._jobs:
                raise SlotBroken("the slot answered another job")
            if reply.get("op") == "infra":
                raise SlotBroken(str(reply.get("detail")))
            tests += [keep(len(tests) + at, report) for at, report in enumerate(reply["tests"])]
            if reply.get("op") == "done":
                return {**reply, "tests": tests}

    def _receive(self, timeout: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        try:
            while not self._bodies:
                self._bodies += self._reader.feed(self._transport.read(deadline - time.monotonic()))
            # It holds what the program said, a few brackets deeper.
            message = protocol.loads(self._bodies.pop(0), protocol.MAX_NESTING + 16)
        except protocol.ProtocolError as error:
            raise SlotBroken(f"the slot spoke nonsense: {error}") from None
        if type(message) is not dict:
            raise SlotBroken("the slot spoke nonsense: not an object")
        return message

    def close(self) -> None:
        """End it."""
        self._transport.close()


class Engine(abc.ABC):
    """Starts slots at one isolation level.

    Attributes:
        name: ``docker`` or ``namespaces``.
        isolation: one of LEVELS.
        image: what programs see as their system, by digest where it has one.
        memory_by: what holds the memory of a run's processes together: ``cgroup`` or ``watcher``.
    """

    name: str
    memory_by: str
    isolation: str
    image: str

    @property
    def nested(self) -> bool:
        """Whether every run gets namespaces of its own."""
        return self.isolation != CONTAINER

    @abc.abstractmethod
    def start(self) -> Slot:
        """Start one slot; raises SandboxError with how to mend it."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give back what the engine itself holds."""
