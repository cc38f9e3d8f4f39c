"""Measure the sandbox: against its peers, over many runs, and where the time of a run goes.

    python -m benchmarks.sandbox --json FILE [--rounds 3] [--repeats 5] [--only ours,subprocess]
    python -m benchmarks.sandbox --memory 100000 [--engine docker|namespaces]
    python -m benchmarks.sandbox --split [--engine docker|namespaces]

The first runs HumanEval's 164 canonical solutions with their own tests, `--repeats` times, by each
runner of peers.py, on `--workers` threads. Rounds are interleaved. The time to start is apart, and
in it the programs that warm a runner up and our checks of the tasks themselves (two runs each).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# A script's own folder comes first, and there `sandbox` is this script.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gold_sets import Case, humaneval
from benchmarks.peers import RUNNERS, Judge
from benchmarks.resident import memory
from benchmarks.tables import machine, names, percentile, print_machine, print_table
from sandbox import Sandbox

# Programs and repeats of runners that would take too long for all of them.
SAMPLES = {"docker_run": (60, 1), "llm_sandbox": (164, 1)}


@dataclasses.dataclass
class Round:
    """One pass of a runner over its programs."""

    start_s: float
    programs_per_s: float
    latencies_ms: list[float]
    false: list[str]


def drive(
    judge: Judge, cases: Sequence[Case], workers: int
) -> tuple[float, list[float], list[str]]:
    """Run programs on threads; returns the seconds of all, the ms of each, what went wrong."""
    jobs, lock = iter(cases), threading.Lock()
    latencies: list[float] = []
    false: list[str] = []

    def work() -> None:
        while True:
            with lock:
                case = next(jobs, None)
            if case is None:
                return
            began = time.perf_counter()
            try:
                fault = "" if judge(case) else "refused"
            except Exception as error:  # a runner that fails has not accepted a right program
                fault = f"{type(error).__name__}: {error}"
            latencies.append((time.perf_counter() - began) * 1000)
            if fault:
                false.append(f"{case.key}: {fault}")

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began, latencies, false


def sample(name: str, cases: Sequence[Case], repeats: int) -> tuple[list[Case], str]:
    """What a runner gets to run, and that in words."""
    count, times = SAMPLES.get(name, (len(cases), repeats))
    count, times = min(count, len(cases)), min(times, repeats)
    # Spread over the set; repeats lie far apart, for equal runs at the same time are shared.
    chosen = [cases[index * len(cases) // count] for index in range(count)]
    return chosen * times, f"{count} of {len(cases)} programs, {times} times a round"


def one_round(name: str, jobs: Sequence[Case], workers: int) -> Round:
    """Open a runner, warm it up, and time it over its programs."""
    began = time.perf_counter()
    with RUNNERS[name](workers, jobs) as judge:
        drive(judge, jobs[: 2 * workers], workers)
        start_s = time.perf_counter() - began
        seconds, latencies, false = drive(judge, jobs, workers)
    return Round(start_s, len(jobs) / seconds, latencies, false)


def summary(rounds: Sequence[Round], words: str) -> dict[str, Any]:
    """The figures of a runner's rounds."""
    rates = [each.programs_per_s for each in rounds]
    latencies = sorted(ms for each in rounds for ms in each.latencies_ms)
    median = statistics.median(rates)
    return {
        "programs_per_s": round(median, 2),
        "spread": round((max(rates) - min(rates)) / median, 3),
        "rounds": [round(rate, 2) for rate in rates],
        **{f"p{n}_ms": round(percentile(latencies, n / 100), 2) for n in (50, 95, 99)},
        "false_verdicts": sum(len(each.false) for each in rounds),
        "false": [text for each in rounds for text in each.false][:20],
        "start_s": round(statistics.median(each.start_s for each in rounds), 2),
        "sample": words,
    }


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Run every runner's rounds, interleaved; a runner that can't be had is null."""
    cases = humaneval()
    rounds: dict[str, list[Round]] = {name: [] for name in options.only}
    missing = {name: "left out by --only" for name in RUNNERS if name not in rounds}
    before = machine()
    for number in range(1, options.rounds + 1):
        for name in rounds:
            if name in missing:
                continue
            jobs, _ = sample(name, cases, options.repeats)
            try:
                done = one_round(name, jobs, options.workers)
            except Exception as error:  # of many roots, and none may cost the others' figures
                missing[name] = f"{type(error).__name__}: {error}"
                continue
            rounds[name].append(done)
            print(f"round {number} {name}: {done.programs_per_s:.1f} programs/s", flush=True)
    found: dict[str, Any] = {"machine": before, "workers": options.workers}
    for name in RUNNERS:
        words = sample(name, cases, options.repeats)[1]
        found[name] = None if name in missing else summary(rounds[name], words)
    found["missing"] = missing
    found["ratios"] = {
        f"ours/{name}": round(found["ours"]["programs_per_s"] / found[name]["programs_per_s"], 2)
        for name in RUNNERS
        if name != "ours" and found["ours"] and found[name]
    }
    return found


def show(found: dict[str, Any]) -> None:
    """Print what was compared."""
    columns = ("programs_per_s", "spread", "p50_ms", "p95_ms", "p99_ms", "false_verdicts")
    rows = [
        (name, *(found[name][column] for column in columns), found[name]["sample"])
        for name in RUNNERS
        if found[name]
    ]
    print()
    print_table(("runner", *columns, "sample"), rows)
    for name, ratio in found["ratios"].items():
        print(f"{name}: {ratio}")
    for name, reason in found["missing"].items():
        print(f"no {name}: {reason}")


def split(engine: str, repeats: int) -> dict[str, Any]:
    """Say where a run's time goes, as far as it shows from outside.

    What one supervisor does for a run (fork, jail, tester, end) is one figure: it has no clock of
    its own for each.
    """
    cases = humaneval()
    parts: dict[str, list[float]] = {"host": [], "wire": [], "supervisor": [], "tests": []}
    with Sandbox(engine, workers=1) as box:
        for case in cases:
            box.run(case.task, case.code)  # each task's own check is done, its text is parsed
        for case in list(cases) * repeats:
            before, began = _on_slots(box), time.perf_counter()
            verdict = box.run(case.task, case.code)
            total, on_slot = (time.perf_counter() - began) * 1000, _on_slots(box) - before
            tests = sum(test.wall_ms for test in verdict.tests)
            parts["host"].append(total - on_slot)
            parts["wire"].append(on_slot - verdict.wall_ms)
            parts["supervisor"].append(verdict.wall_ms - tests)
            parts["tests"].append(tests)
    words = {
        "host": "host: the job, locks, grading",
        "wire": "wire: frames, both ways, at both ends",
        "supervisor": "supervisor: forks, jails, load, end",
        "tests": "tests: the program and its tester",
    }
    whole = sum(map(sum, parts.values()))
    rows = [
        (words[name], f"{statistics.median(ms):.2f}", f"{100 * sum(ms) / whole:.0f}%")
        for name, ms in parts.items()
    ]
    print_table(("part", "median ms", "share"), rows)
    ours = [parts[name] for name in parts if name != "tests"]
    overheads = sorted(sum(times) for times in zip(*ours, strict=True))
    overhead = {f"overhead_p{n}_ms": round(percentile(overheads, n / 100), 2) for n in (50, 99)}
    print("all but the tests:", ", ".join(f"{name} {ms}" for name, ms in overhead.items()))
    return {name: round(statistics.median(ms), 3) for name, ms in parts.items()} | overhead


def _on_slots(box: Sandbox) -> float:
    """Milliseconds that runs have spent on slots so far, from request to reply."""
    found = re.search(r"^code_align_sandbox_run_seconds_sum (\S+)$", box.metrics.text(), re.M)
    assert found is not None
    return float(found[1]) * 1000


def main() -> int:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="of each program in a round")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", type=names(RUNNERS), default=list(RUNNERS), metavar="NAMES")
    parser.add_argument("--engine", default="docker", choices=("docker", "namespaces"))
    parser.add_argument("--memory", type=int, metavar="RUNS", help="resident memory over runs")
    parser.add_argument("--split", action="store_true", help="where a run's time goes")
    options = parser.parse_args()
    print_machine()
    if options.memory:
        found = memory(options.engine, options.memory, options.workers)
    elif options.split:
        found = split(options.engine, options.repeats)
    else:
        found = compare(options)
        show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
