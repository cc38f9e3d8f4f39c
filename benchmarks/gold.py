"""Judge published programs whose verdicts are known; any false verdict is an exit status of 1.

ALIGN_DATA=FOLDER python -m benchmarks.gold [--engine docker|namespaces] [--times 5] [--load]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# A script's own folder comes first, and there `sandbox` is another script.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import gold_sets
from benchmarks.gold_sets import Case
from benchmarks.tables import names, print_machine, print_table
from sandbox import Sandbox, Verdict

SETS: dict[str, Callable[[], list[Case]]] = {
    "humaneval": gold_sets.humaneval,
    "humanevalpack": gold_sets.humanevalpack,
    "mbpp-train": lambda: gold_sets.mbpp("train"),
    "mbpp-validation": lambda: gold_sets.mbpp("validation"),
    "cruxeval": gold_sets.cruxeval,
}
_SHOWN = 20
_BURN = """
import os, sys
parent = int(sys.argv[1])
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


@dataclasses.dataclass(frozen=True)
class Result:
    """What judging one set gave: false verdicts, and weak tasks, each with what was said of it."""

    name: str
    cases: Sequence[Case]
    judged: int
    false: list[tuple[str, str]]
    weak: dict[str, str]
    seconds: float


@contextmanager
def burning(children: int) -> Iterator[None]:
    """Keep as many cores busy as there are children."""
    command = [sys.executable, "-c", _BURN, str(os.getpid())]
    started = [subprocess.Popen(command) for _ in range(children)]
    try:
        yield
    finally:
        for child in started:
            child.kill()
            child.wait()


def judge(box: Sandbox, name: str, cases: Sequence[Case], times: int) -> Result:
    """Judge every program of a set ``times`` times."""
    began = time.monotonic()
    false: list[tuple[str, str]] = []
    weak: dict[str, Case] = {}
    for _ in range(times):
        jobs = ((case, case.task, case.code) for case in cases)
        for case, verdict in box.run_many(jobs):
            if case.is_false(verdict):
                false.append((case.key, f"{verdict.outcome}: {verdict.detail}"))
            if verdict.strength == "weak" and case.right:
                weak[case.key] = case
    seconds = time.monotonic() - began
    reasons = {key: why_weak(box, case) for key, case in weak.items()}
    return Result(name, cases, len(cases) * times, false, reasons, seconds)


def why_weak(box: Sandbox, case: Case) -> str:
    """Say which value of the reference's could not cross: what its tests say when run apart."""
    # Without a reference a task is tested from outside, whatever comes of it.
    apart: Verdict = box.run(dataclasses.replace(case.task, reference=None), case.code)
    return apart.detail or "nothing that shows when it is run again"


def report(results: Sequence[Result]) -> None:
    """Print a table, then what is behind its figures."""
    rows = []
    for result in results:
        right = sum(case.right for case in result.cases)
        rows.append(
            (
                result.name,
                right,
                len(result.cases) - right,
                result.judged,
                len(result.false),
                f"{100 * (1 - len(result.weak) / right):.1f}%",
                f"{result.seconds:.1f}",
            )
        )
    head = ("set", "right", "wrong", "judged", "false verdicts", "strong", "seconds")
    print()
    print_table(head, rows)
    for result in results:
        for (key, detail), count in Counter(result.false).items():
            print(f"FALSE {count} x {result.name} {key}: {detail}")
        if result.weak:
            print(f"\n{result.name}: {len(result.weak)} weak tasks")
            for reason, count in Counter(map(_short, result.weak.values())).most_common(_SHOWN):
                ids = [key for key, text in result.weak.items() if _short(text) == reason]
                print(f"  {count} x {reason} ({', '.join(ids[:5])}{', ...' * (count > 5)})")


def _short(detail: str) -> str:
    return detail.partition(": ")[2][:100] or detail


def main() -> int:
    """Judge the sets and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", default="auto", choices=("auto", "docker", "namespaces"))
    parser.add_argument("--times", type=int, default=5, help="how often each program is judged")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--load", action="store_true", help="with every core kept busy")
    parser.add_argument(
        "--only", type=names(SETS), default=list(SETS), help="sets, comma-separated"
    )
    options = parser.parse_args()
    results = []
    children = (os.cpu_count() or 1) if options.load else 0
    with Sandbox(options.engine, workers=options.workers) as box, burning(children):
        print(f"{box.engine} ({box.isolation}), {options.workers} workers, {box.image}")
        print(f"each program {options.times} times, {children} busy processes beside it")
        print_machine()
        for name in options.only:
            results.append(judge(box, name, SETS[name](), options.times))
    report(results)
    return 1 if any(result.false for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
