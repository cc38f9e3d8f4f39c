"""What one test of one program may use."""

from __future__ import annotations

import dataclasses
from typing import Any

from sandbox.errors import TaskError

WALL_FACTOR = 4.0


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits per test; a program that reaches one is ended and its test failed.

    Attributes:
        cpu_s: CPU seconds of the program's first process, all threads: the time limit.
        wall_s: wall seconds, for programs that sleep; None is four times ``cpu_s``.
        memory_mb: MiB that the program and its children hold.
        output_bytes: bytes of standard output and error together.
        pids: processes and threads.
        tmp_mb: MiB of files in its own /tmp, and the size of the largest one.
    """

    cpu_s: float = 4.0
    wall_s: float | None = None
    memory_mb: int = 512
    output_bytes: int = 4 * 1024 * 1024
    pids: int = 64
    tmp_mb: int = 64

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "wall_s" and value is None:
                continue
            good = type(value) is int or (type(value) is float and field.name.endswith("_s"))
            if not good or not 0 < value < 1e9:
                raise TaskError(f"limits.{field.name}: {value!r} is not a number above zero")

    @property
    def wall(self) -> float:
        """Wall seconds in force."""
        return self.cpu_s * WALL_FACTOR if self.wall_s is None else self.wall_s

    def scaled(self, factor: float) -> Limits:
        """The same limits with ``factor`` times as much time."""
        return dataclasses.replace(self, cpu_s=self.cpu_s * factor, wall_s=self.wall * factor)

    def to_wire(self) -> dict[str, int]:
        """The form that the guest takes."""
        return {
            "cpu_ms": int(self.cpu_s * 1000),
            "wall_ms": int(self.wall * 1000),
            "memory_mb": self.memory_mb,
            "output_bytes": self.output_bytes,
            "pids": self.pids,
            "tmp_mb": self.tmp_mb,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as recorded in a verdict."""
        return {**dataclasses.asdict(self), "wall_s": self.wall}


def limits_row(limits: Limits) -> dict[str, Any]:
    """Return the object that ``parse_limits`` reads back; a wall time that follows is left out."""
    return {name: item for name, item in dataclasses.asdict(limits).items() if item is not None}


def parse_limits(value: Any) -> Limits:
    """Read a row's ``limits``: None or an object of some of the fields; raises TaskError."""
    if value is None:
        return Limits()
    if not isinstance(value, dict):
        raise TaskError(f"limits: an object is expected, not {type(value).__name__}")
    names = {field.name for field in dataclasses.fields(Limits)}
    unknown = sorted(set(value) - names)
    if unknown:
        raise TaskError(f"limits: {unknown[0]!r} is unknown; known are {', '.join(sorted(names))}")
    return Limits(**{name: item for name, item in value.items() if item is not None})
