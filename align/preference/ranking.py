"""Ranks of samples where the tests themselves are not trusted: pure functions over who passed what.

Both take a matrix of samples by tests, `passed[sample][test]`, and return one score a sample; only
their order and their ratios mean something.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

Matrix = Sequence[Sequence[bool]]


def mutual_ranks(passed: Matrix, damping: float = 0.85, iterations: int = 10) -> list[float]:
    """Returns CodeDPO's mutual ranks of samples and tests (arXiv:2410.05605, section 3).

    A sample is good if good tests accept it, and a test is good if good samples pass it. Both begin
    at 1; in each iteration a score becomes `(1 - damping)` times itself plus `damping` times the
    sum of the scores that it is linked with. All are then divided by the largest, which changes no
    order and keeps them finite.

    Args:
        passed: Samples by tests.
        damping: Weight of the links, 0 to 1.
        iterations: How often the scores are passed on.
    """
    codes = [1.0] * len(passed)
    tests = [1.0] * (len(passed[0]) if passed else 0)
    for _ in range(iterations):
        next_codes = [
            (1 - damping) * own + damping * sum(s for s, ok in zip(tests, row, strict=True) if ok)
            for own, row in zip(codes, passed, strict=True)
        ]
        next_tests = [
            (1 - damping) * own
            + damping * sum(s for s, row in zip(codes, passed, strict=True) if row[number])
            for number, own in enumerate(tests)
        ]
        largest = max([*next_codes, *next_tests], default=0.0) or 1.0
        codes = [score / largest for score in next_codes]
        tests = [score / largest for score in next_tests]
    return codes


def agreement_scores(passed: Matrix) -> list[float]:
    """Returns CodeT's scores by dual execution agreement (arXiv:2207.10397, section 2).

    Samples that pass the same tests are one group; its score is the square root of the number of
    its samples, times the number of the tests that they pass.

    Args:
        passed: Samples by tests.
    """
    groups = Counter(tuple(row) for row in passed)
    return [math.sqrt(groups[tuple(row)]) * sum(row) for row in passed]
