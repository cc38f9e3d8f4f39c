"""Proves on this machine what a run needs: the sandbox's walls, the trainer, the model server."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from align.errors import RecipeError
from sandbox import SandboxError
from sandbox import doctor as sandbox_doctor

_NEEDED = ("torch", "transformers", "trl", "peft", "datasets", "vllm")
_MIN_FREE_GIB = 8
_MIN_MEMORY_GIB = 8


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, what was seen, and how to mend it."""

    name: str
    ok: bool
    detail: str
    mend: str


def examine(engine: str, isolation: str | None) -> list[Finding]:
    """Runs every check and returns the findings, the sandbox's first."""
    if engine not in ("auto", "docker", "namespaces"):
        raise RecipeError(f"--engine {engine}: choose auto, docker or namespaces")
    findings = []
    try:
        for proof in sandbox_doctor(engine=engine, isolation=isolation):
            findings.append(Finding(proof.name, proof.ok, proof.detail, proof.mend))
    except SandboxError as error:
        findings.append(Finding("sandbox", False, str(error), "see docs/sandbox.md"))
    return [*findings, *(_package(name) for name in _NEEDED), _disk(), _memory()]


def _package(name: str) -> Finding:
    found = importlib.util.find_spec(name) is not None
    detail = "is installed" if found else "is not installed"
    return Finding(name, found, detail, "run `make setup`, or install code-align[cpu] or [gpu]")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    detail = f"{free:.0f} GiB free here"
    mend = f"a small run needs {_MIN_FREE_GIB} GiB: make room"
    return Finding("disk", free >= _MIN_FREE_GIB, detail, mend)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    mend = f"the 0.5B demo needs {_MIN_MEMORY_GIB} GiB"
    return Finding("memory", total >= _MIN_MEMORY_GIB, f"{total:.0f} GiB", mend)
