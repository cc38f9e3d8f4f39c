"""Whether the chosen answers are longer or shorter: what a policy would learn beside the task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

_EXACT = 1000


def length_report(deltas: Sequence[int]) -> dict[str, Any]:
    """Returns what the differences of length show, in tokens, chosen minus rejected.

    Returns:
        `mean_delta`; how many pairs have a `longer`, a `shorter` or an `equal` chosen side; and the
        `p` of the two-sided sign test on the first two, None where there is no pair.
    """
    longer = sum(delta > 0 for delta in deltas)
    shorter = sum(delta < 0 for delta in deltas)
    return {
        "mean_delta": fmean(deltas) if deltas else None,
        "longer": longer,
        "shorter": shorter,
        "equal": len(deltas) - longer - shorter,
        "p": sign_test(longer, shorter) if deltas else None,
    }


def sign_test(first: int, second: int) -> float:
    """Returns the two-sided p-value of so uneven a split where both sides are as likely.

    Exact (binomial) up to a thousand; above, the normal approximation, corrected by a half.
    """
    count, fewer = first + second, min(first, second)
    if count == 0:
        return 1.0
    if count <= _EXACT:
        tail: float = sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count
        return min(1.0, 2 * tail)
    distance = max(0.0, abs(first - second) - 1) / math.sqrt(count)
    return math.erfc(distance / math.sqrt(2))
