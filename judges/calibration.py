"""Does a judge know what execution knows? Pure functions over scores, preferences and outcomes.

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

from judges.judgement import Preference, Status

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


class Share(TypedDict):
    """A share, the mean over problems of the mean within each, with an interval by problem.

    Attributes:
        value: 0 to 1; None where nothing was compared.
        low: Lower end of the 95% interval, from a bootstrap over problems.
        high: Upper end.
        problems: Problems that have a value.
        comparisons: Values in them.
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


def share_by_problem(rows: Iterable[tuple[str, float]]) -> Share:
    """Returns the mean of values from 0 to 1, each problem counting once.

    Args:
        rows: Problem id and a value, one a comparison.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for problem, value in rows:
        groups[problem].append(value)
    if not groups:
        return Share(value=None, low=None, high=None, problems=0, comparisons=0)
    means = np.array([np.mean(values) for values in groups.values()])
    low, high = _bootstrap_interval(means, 0.95, 1000, 0)
    return Share(
        value=float(means.mean()),
        low=low,
        high=high,
        problems=len(groups),
        comparisons=sum(map(len, groups.values())),
    )


def accuracy(rows: Iterable[tuple[str, float, bool]], threshold: float) -> Share:
    """Returns how often a score is on the side of the threshold where execution is.

    Args:
        rows: Problem, score, whether the candidate passes.
        threshold: From which score on the judge says "right".
    """
    return share_by_problem(
        (problem, float((score >= threshold) == passed)) for problem, score, passed in rows
    )


def cohens_kappa(said: Sequence[bool], truth: Sequence[bool]) -> float | None:
    """Returns the agreement of two raters beyond chance (Cohen 1960), 1 for perfect, 0 for chance.

    None where chance alone would agree always, as when both say the same of everything.
    """
    n = len(truth)
    if n == 0:
        return None
    observed = sum(a == b for a, b in zip(said, truth, strict=True)) / n
    yes = sum(said) / n * sum(truth) / n
    no = (1 - sum(said) / n) * (1 - sum(truth) / n)
    expected = yes + no
    return None if expected == 1 else (observed - expected) / (1 - expected)


def calibration_error(
    probabilities: Sequence[float], truth: Sequence[bool], bins: int = 10
) -> float | None:
    """Returns the expected calibration error (Naeini et al. 2015), 0 for probabilities that hold.

    It is the mean over bins of |share that is so - mean of what was said|.

    Args:
        probabilities: What was said, 0 to 1.
        truth: What was so.
        bins: Of equal width; each counts by what is in it.
    """
    if not truth:
        return None
    said = np.asarray(probabilities, dtype=float)
    was = np.asarray(truth, dtype=float)
    places = np.minimum((said * bins).astype(int), bins - 1)
    error = 0.0
    for place in np.unique(places):
        inside = places == place
        error += float(inside.mean() * abs(was[inside].mean() - said[inside].mean()))
    return error


def longer_wins(rows: Iterable[tuple[str, str, float, int]]) -> Share:
    """Returns how often the longer of two candidates of one problem and outcome scores higher.

    One half is no bias. Ties count half; two of one length are not compared.

    Args:
        rows: Problem, outcome, score, length.
    """
    groups: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    for problem, outcome, score, length in rows:
        groups[problem, outcome].append((score, length))
    compared = []
    for (problem, _), members in groups.items():
        for index, (score, length) in enumerate(members):
            for other_score, other_length in members[index + 1 :]:
                if length == other_length:
                    continue
                longer, shorter = (
                    (score, other_score) if length > other_length else (other_score, score)
                )
                compared.append((problem, _win(longer, shorter)))
    return share_by_problem(compared)


def wins(rows: Iterable[tuple[str, float, float]]) -> Share:
    """Returns how often the first of two scores is the higher one, ties counting half.

    Args:
        rows: Problem, score of what should win, score of what should lose.
    """
    return share_by_problem((problem, _win(better, worse)) for problem, better, worse in rows)


def _win(first: float, second: float) -> float:
    return 0.5 if first == second else float(first > second)


def order_consistency(rows: Iterable[tuple[str, Preference]]) -> Share:
    """Returns how often both orders of a pair name the same winner; unanswered pairs don't count.

    Args:
        rows: Problem and preference.
    """
    return share_by_problem(
        (problem, float(_same_winner(preference)))
        for problem, preference in rows
        if preference.status is Status.OK
    )


def _same_winner(preference: Preference) -> bool:
    ab, ba = (judgement.score for judgement in preference.judgements)
    assert ab is not None and ba is not None
    return (ab - 0.5) * (0.5 - ba) > 0


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
    if np.ptp(values) == 0:
        # That all are equal is no proof that others can't be: one at each end stands for them.
        values = np.append(values, (0.0, 1.0))
    # One draw at a time: resamples x problems indices would not fit for a large run.
    means = [
        values[generator.integers(len(values), size=len(values))].mean() for _ in range(resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
