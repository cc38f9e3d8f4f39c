"""Numbers from outcomes: pass@k, intervals, and the paired comparison of two checkpoints."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from align.errors import InputError

#: Outcomes that say nothing about the code; such a problem counts for no side.
INFRA = "infra_error"
"""The outcome of a run that failed through no fault of its program."""

UNSCORED = frozenset({INFRA, "invalid_task"})
PASSED = "accepted"

_FUNCTION = re.compile(r"(?:humaneval|mbpp)/\d+", re.IGNORECASE)
#: A sum of differences that is nothing but rounding.
_ROUNDING = 1e-9


def pass_at_k(n: int, c: int, k: int) -> float:
    """Returns the unbiased estimate of pass@k of one problem, 1 - C(n-c, k) / C(n, k).

    Formula: Chen et al., Evaluating Large Language Models Trained on Code (arXiv:2107.03374).

    Args:
        n: Samples drawn.
        c: Samples that passed.
        k: Samples that may be tried.

    Returns:
        The estimate; NaN where n < k, for which there is none.

    Raises:
        ValueError: The numbers can't be counts.
    """
    if k < 1 or not 0 <= c <= n:
        raise ValueError(f"pass@{k} of {c} passes among {n} samples is not defined")
    if n < k:
        return math.nan
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def wilson_interval(passed: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Returns Wilson's score interval of a share (95% by default).

    Formula: Wilson, Probable inference (JASA 22, 1927). It stays within 0 and 1, and is not empty
    where nothing or everything passed.

    Raises:
        ValueError: n is not above zero, or `passed` is not between 0 and n.
    """
    if n < 1 or not 0 <= passed <= n:
        raise ValueError(f"{passed} of {n} is no share")
    share = passed / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # rounding must not push an end past what was seen
    return min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share)


def mcnemar_exact(wins: int, losses: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test, the sign test on what changed.

    Args:
        wins: Problems that only the second checkpoint solves.
        losses: Problems that only the first one solves.
    """
    changed = wins + losses
    tail = sum(math.comb(changed, i) for i in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / (1 << changed))


def paired_interval(wins: int, losses: int, n: int) -> tuple[float, float]:
    """Returns the 95% interval of the difference of two shares of the same problems.

    Formula: Agresti and Min, Simple improved confidence intervals for comparing matched proportions
    (Statistics in Medicine 24, 2005): Wald's, with half a problem added to each of the four kinds.
    It is not empty where nothing changed.

    Args:
        wins: Problems that only the second checkpoint solves.
        losses: Problems that only the first one solves.
        n: All problems.
    """
    total = n + 2
    difference = (wins - losses) / total
    changed = (wins + losses + 1) / total
    half = 1.959963984540054 * math.sqrt((changed - difference**2) / total)
    return max(-1.0, difference - half), min(1.0, difference + half)


def source_of(problem: str) -> str:
    """Returns what a problem is made of, as several may be: gaps of one function, say.

    Problems of one source are not independent, in one benchmark (HumanEval's gaps) and in several
    (a benchmark and its form with more tests).
    """
    benchmark, colon, own = problem.partition(":")
    if not colon:
        return problem
    family = benchmark.partition("_")[0].removesuffix("pack")
    found = _FUNCTION.search(own)
    if found:
        return found[0].lower()
    number = own.rpartition("/")[2]
    return f"{family}/{number}" if family in ("humaneval", "mbpp") else f"{family}/{own}"


def bootstrap_interval(
    values: Mapping[str, float], ends: tuple[float, float] = (0.0, 1.0), draws: int = 10_000
) -> tuple[float, float]:
    """Returns the 95% percentile interval of the mean of problems' values, drawn by source.

    Samples of one problem and problems of one source stay together, so that they are not counted as
    if they were independent. The draws are always the same. Where all sources have one mean, which
    is no proof that others can't be, one source at each end is added to them.

    Args:
        values: By problem.
        ends: What a value can be at least and at most.
        draws: How many.

    Raises:
        ValueError: There is no value.
    """
    if not values:
        raise ValueError("no value has no interval")
    groups: dict[str, list[float]] = defaultdict(list)
    for problem, value in values.items():
        groups[source_of(problem)].append(value)
    sums = [sum(group) for group in groups.values()]
    sizes = [len(group) for group in groups.values()]
    total, size = np.asarray(sums, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    if np.ptp(total / size) < _ROUNDING:
        usual = size.mean()
        total = np.append(total, usual * np.asarray(ends))
        size = np.append(size, (usual, usual))
    generator = np.random.default_rng(0)
    means = []
    for _ in range(draws):
        drawn = generator.integers(0, len(total), len(total))
        means.append(total[drawn].sum() / size[drawn].sum())
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def share_interval(rates: Mapping[str, float]) -> tuple[float, float]:
    """Returns the 95% interval of the mean of problems' shares.

    Wilson's where each problem has one answer and a source of its own, else by bootstrap.
    """
    if set(rates.values()) <= {0.0, 1.0} and _independent(rates):
        return wilson_interval(round(sum(rates.values())), len(rates))
    return bootstrap_interval(rates)


def _independent(problems: Collection[str]) -> bool:
    return len(set(map(source_of, problems))) == len(problems)


@dataclass(frozen=True)
class Comparison:
    """Two checkpoints on the same problems.

    Attributes:
        n: Problems that both have a verdict on.
        wins: Problems that the second solves, or solves more often.
        losses: Problems that the first solves, or solves more often.
        before: Mean share of the first's answers that are right, by problem.
        after: The second's.
        interval: Of the difference, 95%, paired by problem: Agresti and Min's where each problem
            has one answer and a source of its own, else by bootstrap.
        sources: Of problems, how many were won and lost in sum.
        p_value: Of the exact sign test on these (McNemar's exact test).
    """

    n: int
    wins: tuple[str, ...]
    losses: tuple[str, ...]
    before: float
    after: float
    interval: tuple[float, float]
    sources: tuple[int, int]
    p_value: float

    @property
    def of_sources(self) -> str:
        """What the sign test counts, where that is not the problems won and lost; else empty."""
        problems = len(self.wins), len(self.losses)
        return "" if self.sources == problems else "sources, {} to {}".format(*self.sources)

    @property
    def difference(self) -> float:
        """Second minus first share."""
        return self.after - self.before


def compare_rates(before: Mapping[str, float], after: Mapping[str, float]) -> Comparison:
    """Compares two checkpoints by the share of right answers to each problem.

    Raises:
        InputError: They have no problem in common.
    """
    common = sorted(before.keys() & after.keys())
    if not common:
        raise InputError("the two results have no problem in common: they can't be compared")
    wins = tuple(problem for problem in common if after[problem] > before[problem])
    losses = tuple(problem for problem in common if after[problem] < before[problem])
    n = len(common)
    single = all(side[problem] in (0.0, 1.0) for side in (before, after) for problem in common)
    if single and _independent(common):
        interval = paired_interval(len(wins), len(losses), n)
    else:
        gains = {problem: after[problem] - before[problem] for problem in common}
        interval = bootstrap_interval(gains, (-1.0, 1.0))
    net: defaultdict[str, float] = defaultdict(float)
    for problem in common:
        net[source_of(problem)] += after[problem] - before[problem]
    won = sum(gain > _ROUNDING for gain in net.values())
    lost = sum(gain < -_ROUNDING for gain in net.values())
    return Comparison(
        n=n,
        wins=wins,
        losses=losses,
        before=sum(before[problem] for problem in common) / n,
        after=sum(after[problem] for problem in common) / n,
        interval=interval,
        sources=(won, lost),
        p_value=mcnemar_exact(won, lost),
    )
