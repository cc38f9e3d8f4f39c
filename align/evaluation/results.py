"""What an evaluation says of a checkpoint, computed from its tables alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from align.artifacts import Row
from align.errors import ArtifactError, InputError
from align.evaluation.scores import (
    PASSED,
    UNSCORED,
    Comparison,
    compare_outcomes,
    pass_at_k,
    wilson_interval,
)

#: A larger share of infrastructure faults among the verdicts fails the evaluation.
MOST_INFRA = 0.01
#: What names the checkpoint; all else in `settings` must agree where two results are compared.
_OF_THE_CHECKPOINT = frozenset({"model", "weights_sha", "adapter_sha"})


def score(
    name: str, samples: Iterable[Row], verdicts: Mapping[str, Row], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the result of one benchmark.

    Args:
        name: The benchmark's name.
        samples: Its sample rows, one a problem.
        verdicts: Verdict rows by sample id.
        settings: Everything that can change the score.

    Raises:
        ArtifactError: More than 1% of the runs failed through no fault of the code, or no problem
            has a verdict.
    """
    rows = list(samples)
    if not rows:
        raise ArtifactError(f"{name}: no problem was answered; see the skips in the log")
    outcomes = {row["task_id"]: verdicts[row["sample_id"]]["outcome"] for row in rows}
    counted = Counter(outcomes.values())
    infra = counted["infra_error"]
    if infra > MOST_INFRA * len(rows):
        raise ArtifactError(
            f"{name}: {infra} of {len(rows)} runs failed in the sandbox, not in the code; a score "
            "over the rest would mislead: see the verdicts' `detail`, then run again"
        )
    n = sum(count for outcome, count in counted.items() if outcome not in UNSCORED)
    if not n:
        raise ArtifactError(f"{name}: no problem has a verdict")
    passed = counted[PASSED]
    return {
        "pass@1": pass_at_k(n, passed, 1),
        "interval": list(wilson_interval(passed, n)),
        "n": n,
        "passed": passed,
        "outcomes": dict(sorted(counted.items())),
        "stop_rate": sum(row["finish_reason"] == "stop" for row in rows) / len(rows),
        "mean_tokens": sum(row["n_tokens"] for row in rows) / len(rows),
        "settings": dict(settings),
        "problems": dict(sorted(outcomes.items())),
    }


def compare_results(
    before: Mapping[str, Any], after: Mapping[str, Any], benchmark: str
) -> Comparison:
    """Compares two `result.json` on one benchmark, problem by problem.

    Raises:
        InputError: One lacks the benchmark, or they were made under different settings.
    """
    sides = []
    for result in (before, after):
        if benchmark not in result["benchmarks"]:
            raise InputError(f"a result holds no benchmark {benchmark}: evaluate it first")
        sides.append(result["benchmarks"][benchmark])
    first, second = (
        {key: value for key, value in side["settings"].items() if key not in _OF_THE_CHECKPOINT}
        for side in sides
    )
    different = sorted(
        key for key in first.keys() | second.keys() if first.get(key) != second.get(key)
    )
    if different:
        raise InputError(
            f"{benchmark}: the two results were made with different {', '.join(different)}; "
            "evaluate both under the same settings"
        )
    return compare_outcomes(sides[0]["problems"], sides[1]["problems"])
