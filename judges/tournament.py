"""Which pairs of n candidates are compared within a budget, and what comes of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from judges.judgement import Preference, sha256_of


def schedule(ids: Sequence[str], comparisons: int, seed: int) -> list[tuple[str, str]]:
    """Returns pairs to compare: everybody with everybody, or as many as the budget has room for.

    Below a full round robin the candidates stand in a ring, in an order that the seed and their ids
    fix, and each meets its nearest neighbours: all have equally many opponents, give or take one.

    Args:
        ids: Of one task, all different, in any order.
        comparisons: How many there may be; each costs the requests of two orders.
        seed: Fixes the ring.

    Raises:
        ValueError: Two ids are equal, or there is no room for one comparison.
    """
    if len(set(ids)) < len(ids):
        raise ValueError("two candidates have one id")
    if comparisons < 1:
        raise ValueError(f"{comparisons} comparisons are no tournament")
    ring = sorted(ids, key=lambda each: sha256_of(["ring", seed, each]))
    n = len(ring)
    pairs: dict[frozenset[str], tuple[str, str]] = {}
    for distance in range(1, n // 2 + 1):
        for place in range(n):
            pair = ring[place], ring[(place + distance) % n]
            pairs.setdefault(frozenset(pair), pair)
    return list(pairs.values())[:comparisons]


def standings(preferences: Iterable[Preference]) -> dict[str, float]:
    """Returns each candidate's mean probability of being better than who it met, 0 to 1.

    A comparison whose orders disagree by more than the margin is no preference: a half for both.
    Comparisons without an answer count for nobody; a candidate whose comparisons all failed is not
    there.
    """
    won: dict[str, list[float]] = defaultdict(list)
    for preference in preferences:
        if (share := preference.share_first) is not None:
            first, second = preference.candidate_ids
            won[first].append(share)
            won[second].append(1 - share)
    return {each: sum(values) / len(values) for each, values in won.items()}
