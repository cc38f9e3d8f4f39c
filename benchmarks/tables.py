"""What the benchmarks share: a choice by name, the machine, plain tables."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterable, Sequence

from align.precision import cpu_dtype


def names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """For an argument that names some of what is known, comma-separated."""
    allowed = list(known)

    def parse(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in allowed]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(allowed)}")
        return found

    return parse


def machine() -> dict[str, object]:
    """What a figure depends on, beside the code."""
    with open("/proc/meminfo") as file:
        kib = int(file.readline().split()[1])
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(kib / (1 << 20), 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "fast_type": cpu_dtype(),
        "load": round(os.getloadavg()[0], 2),
    }


def print_machine() -> None:
    """Print ``machine()`` on one line."""
    print(", ".join(f"{name} {value}" for name, value in machine().items()))


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows below their heads: the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(head))]
    for number, row in enumerate(cells):
        texts = [row[0].ljust(widths[0])]
        texts += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(texts).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that ``share`` of the sorted values don't exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
