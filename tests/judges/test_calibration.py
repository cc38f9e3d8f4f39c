"""Calibration: measured within problems, on what has both a label and a score."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import (
    Judgement,
    Preference,
    Status,
    combine_orders,
    mean_score_by_outcome,
    parse_failure_rate,
    within_problem_auroc,
)
from judges.calibration import (
    accuracy,
    calibration_error,
    cohens_kappa,
    longer_wins,
    order_consistency,
    share_by_problem,
    wins,
)

Rows = list[tuple[str, float | None, bool | None]]


def test_perfect_reversed_and_blind_judges() -> None:
    rows: Rows = [("p", 0.9, True), ("p", 0.8, True), ("p", 0.1, False)]
    assert within_problem_auroc(rows)["value"] == 1.0
    assert within_problem_auroc((p, s, not a) for p, s, a in rows)["value"] == 0.0
    assert within_problem_auroc((p, 0.5, a) for p, _, a in rows)["value"] == 0.5


def test_a_judge_that_only_knows_easy_problems_is_at_chance() -> None:
    # Easy problems pass more and score higher; within each the score says nothing.
    rows: Rows = [("easy", 0.9, i < 9) for i in range(10)]
    rows += [("hard", 0.1, i < 1) for i in range(10)]
    result = within_problem_auroc(rows)
    assert (result["value"], result["problems"], result["comparisons"]) == (0.5, 2, 18)


def test_rows_without_label_or_score_and_problems_without_contrast_do_not_count() -> None:
    rows: Rows = [("p", 0.9, True), ("p", 0.1, False)]
    noise: Rows = [("p", 0.0, None), ("p", None, True), ("q", 0.0, True), ("q", 0.1, True)]
    assert within_problem_auroc([*rows, *noise]) == within_problem_auroc(rows)


def test_no_contrast_at_all_is_no_number() -> None:
    result = within_problem_auroc([("p", 0.9, True)])
    assert (result["value"], result["low"], result["high"]) == (None, None, None)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=20))
def test_auroc_is_the_share_of_ordered_pairs(values: list[tuple[bool, int]]) -> None:
    pairs = [
        (good > bad) + 0.5 * (good == bad)
        for accepted, good in values
        for other, bad in values
        if accepted and not other
    ]
    result = within_problem_auroc((("p", s, a) for a, s in values), resamples=10)
    assert result["value"] == (pytest.approx(np.mean(pairs)) if pairs else None)
    assert result["comparisons"] == len(pairs)


def test_the_interval_covers_and_shrinks_with_problems() -> None:
    generator = np.random.default_rng(0)

    def interval(problems: int) -> tuple[float, float]:
        result = within_problem_auroc(
            (f"p{problem}", float(generator.normal(0.7 if accepted else 0.0)), accepted)
            for problem in range(problems)
            for accepted in (True, False, True, False)
        )
        assert result["low"] is not None
        assert result["high"] is not None
        return result["low"], result["high"]

    (few_low, few_high), (low, high) = interval(10), interval(1000)
    # Phi(0.7 / sqrt 2): the AUROC of two unit normals 0.7 apart.
    assert low < 0.6897 < high
    assert high - low < 0.3 * (few_high - few_low)


def test_parse_failures_are_counted_over_what_was_answered() -> None:
    assert parse_failure_rate(status.value for status in Status) == pytest.approx(3 / 5)
    assert parse_failure_rate(["ok", "parse_error", "infra_error"]) == 0.5
    assert parse_failure_rate(["infra_error"]) is None


def test_a_failed_parse_does_not_lower_a_mean() -> None:
    means = mean_score_by_outcome([("wrong_answer", 0.2), ("accepted", 0.8), ("accepted", None)])
    assert means["accepted"] == {"mean": 0.8, "count": 1}
    assert list(means) == ["accepted", "wrong_answer"]


def test_results_are_plain_json() -> None:
    result = within_problem_auroc([("p", 0.9, True), ("p", 0.1, False)])
    assert json.loads(json.dumps(result)) == {
        "value": 1.0,
        "low": 0.0,
        "high": 1.0,
        "problems": 1,
        "comparisons": 1,
    }


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_values_that_are_all_equal_are_no_proof(value: float) -> None:
    found = share_by_problem((f"p{n}", value) for n in range(40))
    low, high = found["low"], found["high"]
    assert low is not None and high is not None
    assert 0 <= low <= value <= high <= 1
    assert 0 < high - low < 0.2


def test_kappa_is_zero_for_chance_and_one_for_agreement() -> None:
    truth = [True, True, False, False]
    assert cohens_kappa(truth, truth) == 1
    assert cohens_kappa([True, False, True, False], truth) == 0
    assert cohens_kappa([not each for each in truth], truth) == -1
    assert cohens_kappa([True] * 4, [True] * 4) is None
    assert cohens_kappa([], []) is None


def test_kappa_is_that_of_a_worked_table() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, expected 0.5
    said = [True] * 25 + [False] * 25
    truth = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert cohens_kappa(said, truth) == pytest.approx(0.4)


def test_calibration_error_is_the_gap_between_said_and_so() -> None:
    assert calibration_error([0.75] * 4, [True, True, True, False]) == pytest.approx(0)
    assert calibration_error([1.0, 1.0, 0.0, 0.0], [False, False, True, True]) == 1
    assert calibration_error([0.05] * 5 + [0.95] * 5, [False] * 5 + [True] * 5) == pytest.approx(
        0.05
    )
    assert calibration_error([], []) is None


def test_longer_wins_compares_only_within_problem_and_outcome() -> None:
    rows = [
        ("p", "accepted", 3.0, 10),
        ("p", "accepted", 2.0, 5),
        ("p", "wrong_answer", 5.0, 99),  # alone in its outcome
        ("q", "accepted", 1.0, 7),
        ("q", "accepted", 4.0, 7),  # of one length
        ("r", "accepted", 1.0, 8),
        ("r", "accepted", 1.0, 9),  # a tie
    ]
    found = longer_wins(rows)
    assert found["value"] == pytest.approx(0.75) and found["comparisons"] == 2


def test_shares_count_each_problem_once() -> None:
    found = share_by_problem([("p", 1.0)] * 9 + [("q", 0.0)])
    assert found["value"] == 0.5 and found["problems"] == 2 and found["comparisons"] == 10
    assert found["low"] == 0 and found["high"] == 1
    assert share_by_problem([])["value"] is None
    assert wins([("p", 2.0, 1.0), ("p", 1.0, 1.0)])["value"] == 0.75
    assert accuracy([("p", 0.6, True), ("p", 0.6, False)], 0.5)["value"] == 0.5


def pair_of(ab: float, ba: float) -> Preference:
    def one(ids: tuple[str, str], score: float) -> Judgement:
        return Judgement(ids, "r/1", "sha", Status.OK, score, "judge", "prompt")

    return combine_orders(one(("a", "b"), ab), one(("b", "a"), ba), 0.25)


def test_orders_agree_where_one_of_the_two_wins_both_times() -> None:
    consistent, by_place, tied = pair_of(0.9, 0.2), pair_of(0.9, 0.9), pair_of(0.5, 0.5)
    assert order_consistency([("p", consistent)])["value"] == 1
    assert order_consistency([("p", by_place)])["value"] == 0
    assert order_consistency([("p", tied)])["value"] == 0
