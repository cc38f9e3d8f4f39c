"""Sandboxes for the tests: one of each engine that is here, kept for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sandbox import Sandbox, SandboxError
from sandbox.engines.docker import connect


def _engines() -> list[str]:
    """Engines to test: Docker only where one answers, unless ALIGN_REQUIRE_ENGINE=1 demands it."""
    if os.environ.get("ALIGN_REQUIRE_ENGINE") != "1":
        try:
            connect(timeout=5).close()
        except SandboxError:
            return ["namespaces"]
    return ["docker", "namespaces"]


ENGINES = _engines()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if "docker" not in ENGINES:
        terminalreporter.write_line("docker: not tested (no engine answers)", yellow=True)


@pytest.fixture(scope="session", params=ENGINES)
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(request.param, workers=2) as made:
        yield made


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
