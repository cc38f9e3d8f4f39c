"""Fixtures of the judges' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from judges import client
from tests.judges.fault_server import FaultServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    monkeypatch.setattr(client, "BACKOFF_S", 0.01)
    running = FaultServer()
    yield running
    running.close()
