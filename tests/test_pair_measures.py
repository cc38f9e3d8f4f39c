"""What pairs are measured by: ranks of samples and tests, likeness, lengths."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.preference.lengths import length_report, sign_test
from align.preference.likeness import marks_of, normal_form, similarity
from align.preference.ranking import agreement_scores, mutual_ranks

MATRICES = st.integers(1, 5).flatmap(
    lambda width: st.lists(
        st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=6
    )
)


@given(MATRICES, st.randoms(use_true_random=False))
def test_ranks_follow_their_samples(matrix: list[list[bool]], chance: random.Random) -> None:
    order = list(range(len(matrix)))
    chance.shuffle(order)
    for ranks in (mutual_ranks, agreement_scores):
        straight = ranks(matrix)
        assert [straight[i] for i in order] == pytest.approx(ranks([matrix[i] for i in order]))


@given(MATRICES)
def test_who_passes_more_of_the_same_tests_does_not_rank_lower(matrix: list[list[bool]]) -> None:
    ranks = mutual_ranks(matrix)
    for left, low in zip(matrix, ranks, strict=True):
        for right, high in zip(matrix, ranks, strict=True):
            if all(b or not a for a, b in zip(left, right, strict=True)):
                assert high >= low - 1e-12


def test_agreement_counts_samples_and_tests() -> None:
    matrix = [[True, True, False], [True, True, False], [True, True, True], [False] * 3]
    assert agreement_scores(matrix) == pytest.approx([2**0.5 * 2, 2**0.5 * 2, 3, 0])


def test_mutual_ranks_are_the_formula_s() -> None:
    # One step from ones: 0.15 + 0.85 times the number of links, over the largest of all.
    assert mutual_ranks([[True, True], [True, False]], iterations=1) == pytest.approx(
        [1.0, (0.15 + 0.85) / (0.15 + 1.7)]
    )


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.lists(st.sampled_from("abcd"), max_size=8))
def test_likeness_has_no_direction(left: list[str], right: list[str]) -> None:
    assert similarity(left, right) == similarity(right, left)
    assert 0 <= similarity(left, right) <= 1
    assert similarity(left, left) == 1


def test_normal_form_keeps_what_a_program_does() -> None:
    assert normal_form('class A:\n    """Doc."""\n') == "class A:\n    pass"
    assert normal_form("x = 'text'\n") == "x = 'text'"
    assert normal_form("fn main() {\n\n}  \n") == "fn main() {\n}"
    assert marks_of("a+b") == ["a", "+", "b"]


@pytest.mark.parametrize(
    ("first", "second", "p"), [(0, 0, 1.0), (5, 5, 1.0), (5, 0, 0.0625), (9, 1, 0.021484375)]
)
def test_the_sign_test_is_the_binomial_one(first: int, second: int, p: float) -> None:
    assert sign_test(first, second) == pytest.approx(p)
    assert sign_test(second, first) == pytest.approx(p)


def test_the_sign_test_has_no_step_where_it_becomes_an_approximation() -> None:
    assert sign_test(530, 470) == pytest.approx(sign_test(531, 470), rel=0.1)
    assert sign_test(90_000, 10_000) < 1e-12


def test_lengths_are_reported() -> None:
    report = length_report([3, 4, -1, 0])
    assert report == {"mean_delta": 1.5, "longer": 2, "shorter": 1, "equal": 1, "p": 1.0}
