"""What an evaluation says of a checkpoint, computed from its tables alone."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from align.artifacts import Row
from align.errors import ArtifactError, InputError
from align.evaluation.scores import (
    INFRA,
    PASSED,
    UNSCORED,
    Comparison,
    bootstrap_interval,
    compare_rates,
    pass_at_k,
    share_interval,
)

RESULT = "result.json"
#: A larger share of infrastructure faults among the verdicts fails the evaluation.
MOST_INFRA = 0.01
#: pass@k is estimated where no larger share of the problems has fewer than k verdicts.
MOST_SHORT = 0.1
#: What names the checkpoint, and the draw: all else in `settings` must agree where two results are
#: compared.
_OF_THE_CHECKPOINT = frozenset({"model", "weights_sha", "adapter_sha"})
_OF_THE_DRAW = frozenset({"seed"})
_KS = (1, 5, 10, 25, 50, 100)


def score(
    name: str, samples: Iterable[Row], verdicts: Mapping[str, Row], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the result of one benchmark.

    pass@k is unbiased and the mean over the problems with k verdicts at least. The interval of
    pass@1 is Wilson's for one answer a problem, and by bootstrap for several, or where problems
    share their source.

    Args:
        name: The benchmark's name.
        samples: Its sample rows.
        verdicts: Verdict rows by sample id.
        settings: Everything that can change the score.

    Raises:
        ArtifactError: More than 1% of the runs failed through no fault of the code, or no problem
            has a verdict.
    """
    rows = sorted(samples, key=lambda row: (row["task_id"], row["sample_index"]))
    if not rows:
        raise ArtifactError(f"{name}: no problem was answered; see the skips in the log")
    outcomes: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        outcomes[row["task_id"]].append(verdicts[row["sample_id"]]["outcome"])
    counted = Counter(outcome for each in outcomes.values() for outcome in each)
    infra = counted[INFRA]
    if infra > MOST_INFRA * len(rows):
        raise ArtifactError(
            f"{name}: {infra} of {len(rows)} runs failed in the sandbox, not in the code; a score "
            "over the rest would mislead: see the verdicts' `detail`, then run again"
        )
    passes = {
        problem: (each.count(PASSED), sum(outcome not in UNSCORED for outcome in each))
        for problem, each in outcomes.items()
    }
    passes = {problem: (c, n) for problem, (c, n) in passes.items() if n}
    if not passes:
        raise ArtifactError(f"{name}: no problem has a verdict")
    # A few problems may lack a verdict, where the sandbox failed: pass@k is of the others.
    enough = {k: [(c, n) for c, n in passes.values() if n >= k] for k in _KS}
    rates = {problem: c / n for problem, (c, n) in passes.items()}
    several = len(rows) > len(outcomes)
    passed = sum(c for c, _ in passes.values())
    interval = bootstrap_interval(rates) if several else share_interval(rates)
    return {
        **{
            f"pass@{k}": sum(pass_at_k(n, c, k) for c, n in known) / len(known)
            for k, known in enough.items()
            if len(known) >= max(1, (1 - MOST_SHORT) * len(passes))
        },
        "interval": list(interval),
        "n": len(passes),
        "passed": passed,
        "samples": sum(n for _, n in passes.values()),
        "outcomes": dict(sorted(counted.items())),
        "stop_rate": sum(row["finish_reason"] == "stop" for row in rows) / len(rows),
        "mean_tokens": sum(row["n_tokens"] for row in rows) / len(rows),
        "settings": dict(settings),
        "problems": {problem: each[0] for problem, each in sorted(outcomes.items())},
        **({"passes": dict(sorted(passes.items()))} if several else {}),
    }


def read_result(folder: Path) -> dict[str, Any]:
    """Returns the `result.json` of a finished evaluation.

    Raises:
        ArtifactError: There is none, or it is damaged.
    """
    path = folder / RESULT
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(result["benchmarks"], dict):
            raise TypeError("benchmarks is no object")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} can't be read as an evaluation's result ({type(error).__name__}: {error}): "
            "name a folder that `align eval` wrote"
        ) from error
    return result


def compare_results(
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    benchmarks: Sequence[str],
) -> Comparison:
    """Compares two checkpoints problem by problem.

    Args:
        before: The first one's `result.json`, one a seed.
        after: The second one's.
        benchmarks: Names of those whose problems count, all alike.

    Raises:
        InputError: One lacks a benchmark, or they were made under different settings.
    """
    sides: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for benchmark in benchmarks:
        results = _comparable([*before, *after], benchmark)
        for side, own in zip(sides, (results[: len(before)], results[len(before) :]), strict=True):
            side.update(solved_by_problem(own))
    return compare_rates(*sides)


def _comparable(everything: Sequence[Mapping[str, Any]], benchmark: str) -> list[Any]:
    """Returns what all results say of a benchmark, if they were made under the same settings."""
    results = []
    for result in everything:
        if benchmark not in result["benchmarks"]:
            raise InputError(f"a result holds no benchmark {benchmark}: evaluate it first")
        results.append(result["benchmarks"][benchmark])
    first, *others = (_conditions(result) for result in results)
    for other in others:
        different = sorted(
            key for key in first.keys() | other.keys() if first.get(key) != other.get(key)
        )
        if different:
            raise InputError(
                f"{benchmark}: the results were made with different {', '.join(different)}; "
                "evaluate all of them under the same settings"
            )
    return results


def _conditions(result: Mapping[str, Any]) -> dict[str, Any]:
    ignored = _OF_THE_CHECKPOINT | _OF_THE_DRAW
    return {key: value for key, value in result["settings"].items() if key not in ignored}


def solved_by_problem(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the share of right answers by problem, over the results of all seeds."""
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for result in results:
        single = {
            problem: (int(outcome == PASSED), 1)
            for problem, outcome in result["problems"].items()
            if outcome not in UNSCORED
        }
        for problem, (c, n) in (result.get("passes") or single).items():
            right[problem] += c
            asked[problem] += n
    return {problem: right[problem] / n for problem, n in asked.items()}
