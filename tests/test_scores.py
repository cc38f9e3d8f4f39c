"""Numbers from outcomes: pass@k, intervals, paired comparisons, what counts for nobody."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.errors import ArtifactError, InputError
from align.evaluation import (
    compare_results,
    pass_at_k,
    wilson_interval,
)
from align.evaluation.results import score, solved_by_problem
from align.evaluation.scores import compare_rates, mcnemar_exact, paired_interval


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_pass_at_k_is_the_share_of_draws_that_hold_a_pass(numbers: tuple[int, int]) -> None:
    n, c = numbers
    for k in range(1, n + 1):
        draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_has_no_value_for_too_few_samples() -> None:
    assert math.isnan(pass_at_k(1, 0, 10))
    assert math.isnan(pass_at_k(0, 0, 1))
    for bad in [(3, 4, 1), (3, -1, 1), (3, 1, 0)]:
        with pytest.raises(ValueError, match="not defined"):
            pass_at_k(*bad)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_wilson_ends_are_where_the_score_test_turns(numbers: tuple[int, int]) -> None:
    n, passed = numbers
    low, high = wilson_interval(passed, n)
    share = passed / n
    assert 0 <= low <= share <= high <= 1 and low < high
    for end in (low, high):
        if 0 < end < 1 and end != share:
            z = abs(share - end) / math.sqrt(end * (1 - end) / n)
            assert z == pytest.approx(1.959963984540054, rel=1e-6)


def test_wilson_of_a_known_case_and_of_none() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    with pytest.raises(ValueError, match="no share"):
        wilson_interval(0, 0)


@given(st.integers(0, 7), st.integers(0, 7))
def test_mcnemar_is_the_share_of_coin_throws_at_least_as_uneven(wins: int, losses: int) -> None:
    throws = list(itertools.product((0, 1), repeat=wins + losses))
    uneven = sum(abs(2 * sum(throw) - len(throw)) >= abs(wins - losses) for throw in throws)
    expected = min(Fraction(1), Fraction(uneven, len(throws)))
    assert mcnemar_exact(wins, losses) == pytest.approx(float(expected))


def solved(**outcomes: str) -> dict[str, float]:
    return solved_by_problem([{"problems": outcomes}])


def test_a_comparison_is_paired_and_leaves_out_what_was_not_scored() -> None:
    before = solved(a="accepted", b="wrong_answer", c="no_code", d="infra_error", e="x")
    after = solved(a="time_limit", b="accepted", c="accepted", d="accepted", f="accepted")
    found = compare_rates(before, after)
    assert (found.n, found.wins, found.losses) == (3, ("b", "c"), ("a",))
    assert found.difference == pytest.approx(1 / 3)
    assert found.p_value == 1.0
    # half a problem more of each kind: changes of +1 (2.5 times), -1 (1.5) and 0 (1), five in all
    half = 1.96 * math.sqrt((4 / 5 - (1 / 5) ** 2) / 5)
    assert found.interval == pytest.approx((1 / 5 - half, 1 / 5 + half), rel=1e-4)
    low, high = paired_interval(0, 0, 100)
    assert -0.05 < low < 0 < high < 0.05, "that nothing changed is no proof that nothing can"
    assert paired_interval(3, 0, 3)[1] == 1.0
    with pytest.raises(InputError, match="no problem in common"):
        compare_rates(solved(a="accepted"), solved(b="accepted"))


def rows_and_verdicts(outcomes: list[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    rows = [
        {
            "sample_id": f"s{i}",
            "task_id": f"t{i}",
            "sample_index": 0,
            "finish_reason": "stop",
            "n_tokens": 10,
        }
        for i in range(len(outcomes))
    ]
    return rows, {f"s{i}": {"outcome": outcome} for i, outcome in enumerate(outcomes)}


def test_faults_of_the_sandbox_count_for_nobody_and_many_of_them_fail_the_evaluation() -> None:
    rows, verdicts = rows_and_verdicts(["accepted"] * 99 + ["wrong_answer"] * 100 + ["infra_error"])
    result = score("humaneval", rows, verdicts, {})
    assert (result["n"], result["passed"]) == (199, 99)
    assert result["outcomes"]["infra_error"] == 1
    rows, verdicts = rows_and_verdicts(["accepted"] * 98 + ["infra_error"] * 2)
    with pytest.raises(ArtifactError, match="2 of 100 runs failed in the sandbox"):
        score("humaneval", rows, verdicts, {})
    with pytest.raises(ArtifactError, match="no problem was answered"):
        score("humaneval", [], {}, {})


def test_results_under_different_settings_are_not_compared() -> None:
    def result(**settings: Any) -> dict[str, Any]:
        rows, verdicts = rows_and_verdicts(["accepted"])
        return {"benchmarks": {"humaneval": score("humaneval", rows, verdicts, settings)}}

    one = result(weights_sha="1", model="a", max_tokens=400)
    other = result(weights_sha="2", model="b", max_tokens=400, seed=3)
    assert compare_results([one], [other, other], ["humaneval"]).n == 1
    with pytest.raises(InputError, match="different extractor, max_tokens"):
        compare_results([one], [result(max_tokens=300, extractor="x")], ["humaneval"])
    with pytest.raises(InputError, match="no benchmark held_out"):
        compare_results([one], [one], ["held_out"])
