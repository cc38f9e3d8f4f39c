"""Shared fixtures: a context that records, and what this machine must have in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from align.artifacts import Identity
from align.stage import ModelServers, Output


class RecordingBar:
    """A progress bar that counts."""

    def __init__(self) -> None:
        self.steps = 0

    def advance(self, steps: int = 1) -> None:
        self.steps += steps

    def note(self, text: str) -> None:
        del text


class RecordingContext:
    """A context for stages without a model server or a sandbox; it keeps what was said."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.warnings: list[str] = []
        self.notes: list[str] = []

    @property
    def servers(self) -> ModelServers:
        raise AssertionError("this stage must not start a server")

    def sandbox(self) -> Any:
        raise AssertionError("this stage must not open a sandbox")

    def log(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def say(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    @contextmanager
    def progress(self, title: str, total: int | None) -> Iterator[RecordingBar]:
        del title, total
        yield RecordingBar()


def pytest_configure() -> None:
    """Gives each of several test processes cores of its own: threads that share one only wait."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        cores = sorted(os.sched_getaffinity(0))
        each = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        os.sched_setaffinity(0, cores[int(worker[2:]) :: each] or cores)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the longest file, so that no process waits for another at the end."""
    items.sort(key=lambda item: item.path.stem != "test_end_to_end")


@pytest.fixture
def context() -> RecordingContext:
    return RecordingContext()


@pytest.fixture
def output(tmp_path: Path) -> Output:
    folder = tmp_path / "out"
    folder.mkdir()
    return Output(folder, Identity("test", "config"))
