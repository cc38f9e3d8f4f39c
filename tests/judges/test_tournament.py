"""Who meets whom, and what comes of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import Preference, Status
from judges.tournament import schedule, standings


@given(st.integers(2, 9), st.integers(1, 40), st.integers(0, 5))
def test_a_schedule_has_different_pairs_and_spreads_them(n: int, most: int, seed: int) -> None:
    ids = [f"s{index}" for index in range(n)]
    pairs = schedule(ids, most, seed)
    assert len(pairs) == min(most, n * (n - 1) // 2)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    assert all(len(set(pair)) == 2 for pair in pairs)
    games = Counter(each for pair in pairs for each in pair)
    counts = [games[each] for each in ids]
    assert max(counts) - min(counts) <= 2
    assert schedule(ids[::-1], most, seed) == pairs


def test_wrong_tournaments_are_refused() -> None:
    with pytest.raises(ValueError, match="one id"):
        schedule(["a", "a"], 3, 0)
    with pytest.raises(ValueError, match="no tournament"):
        schedule(["a", "b"], 0, 0)


def preference(a: str, b: str, p_first: float | None) -> Preference:
    status = Status.INFRA_ERROR if p_first is None else Status.OK
    gap = None if p_first is None else 0.0
    preferred = None if p_first in (None, 0.5) else (a if p_first > 0.5 else b)
    return Preference((a, b), status, p_first, gap, preferred, ())  # type: ignore[arg-type]


def test_a_score_is_the_mean_probability_and_failures_count_for_nobody() -> None:
    played = [
        preference("a", "b", 0.75),
        preference("c", "a", 0.5),
        preference("b", "c", None),
        preference("d", "c", None),
    ]
    assert standings(played) == {"a": 0.625, "b": 0.25, "c": 0.5}


def test_orders_that_disagree_are_a_half_for_both() -> None:
    disagreeing = replace(preference("a", "b", 0.75), order_gap=0.5, preferred=None)
    assert standings([disagreeing]) == {"a": 0.5, "b": 0.5}
    assert standings([disagreeing, preference("a", "c", 1.0)]) == {"a": 0.75, "b": 0.5, "c": 0.0}
