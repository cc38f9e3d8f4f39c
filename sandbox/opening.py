"""From the names that a user gives to an engine: never a level lower than was asked for."""

from __future__ import annotations

import os

from sandbox.engines.base import CONTAINER_NS, LEVELS, NS, Engine
from sandbox.errors import SandboxError

ENGINES = ("auto", "docker", "namespaces")


def open_engine(
    engine: str,
    isolation: str | None,
    memory_mb: int = 512,
    image: str | None = None,
    runtime: str | None = None,
) -> Engine:
    """Return the engine that the names mean; raises SandboxError rather than go a level down."""
    if engine == "auto":
        engine = os.environ.get("ALIGN_SANDBOX_ENGINE") or "auto"
    if engine not in ENGINES:
        raise SandboxError(f"engine {engine!r} is not one of {', '.join(ENGINES)}")
    if isolation is not None and isolation not in LEVELS:
        raise SandboxError(f"isolation {isolation!r} is not one of {', '.join(LEVELS)}")
    if engine == "namespaces" or (engine == "auto" and isolation == NS):
        if runtime is not None:
            raise SandboxError(f"runtime {runtime!r} is the Docker engine's: pass engine='docker'")
        return _namespaces(isolation, memory_mb, image)
    if isolation == NS:
        raise SandboxError("isolation 'ns' is the namespaces engine's: pass engine='namespaces'")
    from sandbox.engines.docker import DockerEngine

    try:
        return DockerEngine(isolation or CONTAINER_NS, memory_mb, image, runtime)
    except SandboxError as error:
        if engine == "docker" or isolation is not None:
            raise
        raise SandboxError(
            f"{error}. Install or start a Docker engine, or run on the embedded namespaces engine,"
            " a level lower: isolation='ns' here, --isolation ns for `align`'s verbs, --set"
            " sandbox.isolation=ns for a recipe"
        ) from None


def _namespaces(isolation: str | None, memory_mb: int, image: str | None) -> Engine:
    from sandbox.engines.namespaces import NamespaceEngine

    if isolation not in (None, NS):
        raise SandboxError(f"the namespaces engine offers isolation 'ns', not {isolation!r}")
    return NamespaceEngine(memory_mb, image)


def ensure_image(engine: str = "auto", isolation: str | None = None) -> str:
    """Build what programs see as their system where it isn't there yet; returns its name."""
    opened = open_engine(engine, isolation)
    try:
        return opened.image
    finally:
        opened.close()
