"""Does a judge know what execution knows? Pure functions over scores and outcomes.

Pooled over problems, an AUROC mostly measures which problems are easy. What matters when a judge
orders the candidates of one problem is whether it puts the ones that pass above those that fail
*within* that problem, so it is computed by problem and averaged over problems.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from judges.judgement import Status

_NO_VERDICT = {Status.PARSE_ERROR, Status.TRUNCATED, Status.REFUSED}


class Auroc(TypedDict):
    """Probability that a passing candidate scores above a failing one of its problem.

    Attributes:
        value: Mean over problems; ties count half; 0.5 is chance. None where no problem has both a
            passing and a failing candidate with scores.
        low: Lower end of the interval, from a bootstrap over problems.
        high: Upper end.
        problems: Problems that had both.
        comparisons: Pairs compared in them.
    """

    value: float | None
    low: float | None
    high: float | None
    problems: int
    comparisons: int


class MeanScore(TypedDict):
    """Mean score of the candidates with one outcome, and how many of them have a score."""

    mean: float
    count: int


def within_problem_auroc(
    rows: Iterable[tuple[str, float | None, bool | None]],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Auroc:
    """Computes the AUROC of score against passing within problems, each problem counting once.

    Within a problem it is the Mann-Whitney statistic: the share of (passing, failing) pairs in
    which the passing one scores higher, ties counting half. The interval is the percentile
    bootstrap with whole problems drawn with replacement, since candidates of one problem are not
    independent.

    Args:
        rows: Problem id, score, and whether the candidate passes, one a candidate. Rows without a
            score (the judgement is not ok) or without a label (an infrastructure fault, a flaky or
            invalid task) count in no comparison.
        confidence: Of the interval, 0 to 1.
        resamples: Bootstrap draws.
        seed: Of the draws.
    """
    groups: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for problem, score, accepted in rows:
        if score is not None and accepted is not None:
            groups[problem][0 if accepted else 1].append(score)
    mixed = [(passed, failed) for passed, failed in groups.values() if passed and failed]
    if not mixed:
        return Auroc(value=None, low=None, high=None, problems=0, comparisons=0)
    by_problem = np.array([_auroc(passed, failed) for passed, failed in mixed])
    low, high = _bootstrap_interval(by_problem, confidence, resamples, seed)
    return Auroc(
        value=float(by_problem.mean()),
        low=low,
        high=high,
        problems=len(mixed),
        comparisons=sum(len(passed) * len(failed) for passed, failed in mixed),
    )


def parse_failure_rate(statuses: Iterable[str]) -> float | None:
    """Returns the share of answers that held no verdict (unreadable, truncated, refused).

    Requests that the server never answered say nothing about the judge and are left out. None where
    nothing was answered.
    """
    answered = [status for status in statuses if status != Status.INFRA_ERROR]
    if not answered:
        return None
    return sum(status in _NO_VERDICT for status in answered) / len(answered)


def mean_score_by_outcome(rows: Iterable[tuple[str, float | None]]) -> dict[str, MeanScore]:
    """Returns the mean score for each outcome of execution; rows without a score don't count.

    Args:
        rows: Outcome and score, one a candidate.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for outcome, score in rows:
        if score is not None:
            scores[outcome].append(score)
    return {
        outcome: MeanScore(mean=float(np.mean(values)), count=len(values))
        for outcome, values in sorted(scores.items())
    }


def _auroc(passed: Sequence[float], failed: Sequence[float]) -> float:
    difference = np.subtract.outer(np.array(passed), np.array(failed))
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def _bootstrap_interval(
    values: npt.NDArray[np.float64], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    # One draw at a time: resamples x problems indices would not fit for a large run.
    means = [
        values[generator.integers(len(values), size=len(values))].mean() for _ in range(resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
