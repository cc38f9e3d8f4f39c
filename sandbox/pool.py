"""Warm slots: lease one, give it back, or throw it away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.engines.base import Engine, Slot
from sandbox.errors import SandboxError

# An engine that restarts comes back; one that never answered is reported soon.
_PATIENCE_S, _FIRST_PATIENCE_S = 60.0, 3.0
_LONGEST_PAUSE_S = 5.0


class Pool:
    """At most ``size`` slots of one engine, started when needed, each leased to one thread."""

    def __init__(self, engine: Engine, size: int) -> None:
        self._engine = engine
        self._free: list[Slot] = []
        self._all: set[Slot] = set()
        self._leases = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._closed = False
        self._closing = threading.Event()
        self._worked = False

    def get(self, fresh: bool = False) -> Slot:
        """Lease a slot, waiting for one; a new one where ``fresh``, as the others may be dead, too.

        Raises:
            SandboxError: none can be started.
        """
        self._leases.acquire()
        try:
            with self._lock:
                self._check_open()
                slot = self._free.pop() if self._free else None
                if slot is not None and not fresh:
                    return slot
                if slot is not None:
                    self._all.discard(slot)
            if slot is not None:
                slot.close()
            return self._start()
        except BaseException:
            self._leases.release()
            raise

    def _start(self) -> Slot:
        patience = _PATIENCE_S if self._worked else _FIRST_PATIENCE_S
        deadline, pause = time.monotonic() + patience, 0.5
        while True:
            try:
                slot = self._engine.start()
                break
            except SandboxError:
                if time.monotonic() + pause > deadline or self._closing.wait(pause):
                    raise
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        self._worked = True
        with self._lock:
            if not self._closed:
                self._all.add(slot)
                return slot
        slot.close()
        raise SandboxError("the sandbox is closed")

    def put(self, slot: Slot) -> None:
        """Give a slot back that answered properly."""
        with self._lock:
            if not self._closed:
                self._free.append(slot)
        self._leases.release()

    def destroy(self, slot: Slot) -> None:
        """End a slot that can't be trusted any more; the next lease starts a fresh one."""
        with self._lock:
            self._all.discard(slot)
        slot.close()
        self._leases.release()

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxError("the sandbox is closed")

    def close(self) -> None:
        """End every slot, leased ones too."""
        self._closing.set()
        with self._lock:
            self._closed = True
            slots, self._all, self._free = list(self._all), set(), []
        threads = [threading.Thread(target=slot.close) for slot in slots]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class Lanes:
    """Many runs side by side, or one alone: what is measured again has no neighbours."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._running = 0
        self._alone = False
        self._waiting = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Run beside others, after those who wait to be alone."""
        with self._condition:
            self._condition.wait_for(lambda: not self._alone and not self._waiting)
            self._running += 1
        try:
            yield
        finally:
            with self._condition:
                self._running -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Run when nobody else does."""
        with self._condition:
            self._waiting += 1
            try:
                self._condition.wait_for(lambda: not self._alone and not self._running)
            finally:
                self._waiting -= 1
                self._condition.notify_all()
            self._alone = True
        try:
            yield
        finally:
            with self._condition:
                self._alone = False
                self._condition.notify_all()
