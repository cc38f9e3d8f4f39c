"""Short tasks about a function ``f``, for the sandbox's tests."""

from __future__ import annotations

from typing import Any

from sandbox import Task, parse_task


def _task(tests: dict[str, Any], **more: Any) -> Task:
    return parse_task({"task_id": "t", "entry_point": "f", "tests": tests, **more})


def calls(*cases: tuple[list[Any], Any], compare: Any = None, **more: Any) -> Task:
    """A task that calls ``f``: pairs of arguments and expected value."""
    made = [{"args": args, "expected": expected} for args, expected in cases]
    return _task({"kind": "calls", "cases": made, "compare": compare}, **more)


def asserts(*lines: str, setup: str = "", **more: Any) -> Task:
    """A task of assertions about ``f``."""
    return _task({"kind": "asserts", "setup": setup, "asserts": list(lines)}, **more)


def script(code: str, **more: Any) -> Task:
    """A task with a script that defines ``check(candidate)``."""
    return _task({"kind": "script", "code": code}, **more)


def stdio(*cases: tuple[str, str], **more: Any) -> Task:
    """A task of whole programs: pairs of standard input and expected output."""
    return _task(
        {"kind": "stdio", "cases": [{"stdin": given, "stdout": out} for given, out in cases]},
        **more,
    )
