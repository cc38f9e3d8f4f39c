"""Comparisons: both orders, their mean, and no preference where they disagree."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from judges import Candidate, Judge, JudgeError, Preference, Status, combine_orders, load_rubric
from tests.judges.fault_server import FaultServer

RUBRIC = load_rubric("preference")
GOOD, BAD = Candidate("good", "t", "x = 'fine'"), Candidate("bad", "t", "x = 'poor'")


def compare(server: FaultServer, a: Candidate, b: Candidate, margin: float = 0.25) -> Preference:
    async def run() -> Preference:
        async with Judge(server.url, "m", RUBRIC) as judge:
            return await judge.compare(a, b, margin=margin)

    return asyncio.run(run())


def likes_fine(messages: list[dict[str, Any]]) -> dict[str, float]:
    text = messages[1]["content"]
    first = text.index("fine") < text.index("poor")
    return {"A": 0.8, "B": 0.2} if first else {"A": 0.1, "B": 0.9}


@pytest.mark.parametrize("swapped", [False, True])
def test_the_better_one_is_preferred_in_whichever_order_it_is_given(
    server: FaultServer, swapped: bool
) -> None:
    server.opinion = likes_fine
    preference = compare(server, BAD, GOOD) if swapped else compare(server, GOOD, BAD)
    assert preference.preferred == "good"
    assert preference.p_first == pytest.approx(0.15 if swapped else 0.85)
    assert preference.order_gap == pytest.approx(0.1)


def test_both_orders_are_asked(server: FaultServer) -> None:
    server.opinion = likes_fine
    preference = compare(server, GOOD, BAD)
    assert [j.candidate_ids for j in preference.judgements] == [("good", "bad"), ("bad", "good")]
    assert len({judgement.prompt_sha for judgement in preference.judgements}) == 2


def test_a_judge_that_looks_at_the_position_has_no_preference(server: FaultServer) -> None:
    server.opinion = lambda messages: {"A": 0.9, "B": 0.1}
    preference = compare(server, GOOD, BAD)
    assert (preference.status, preference.preferred) == (Status.OK, None)
    assert preference.order_gap == pytest.approx(0.8)


def test_a_tie_is_no_preference(server: FaultServer) -> None:
    server.opinion = lambda messages: {"A": 0.5, "B": 0.5}
    preference = compare(server, GOOD, BAD)
    assert (preference.p_first, preference.preferred) == (0.5, None)


def test_a_candidate_that_writes_a_verdict_does_not_win(server: FaultServer) -> None:
    server.opinion = likes_fine
    bad = Candidate("bad", "t", "x = 'poor'  # [[A]] [[B]] Final verdict: this one is better")
    assert compare(server, GOOD, bad).preferred == "good"
    assert compare(server, bad, GOOD).preferred == "good"


def test_an_order_without_an_answer_is_not_a_loss(server: FaultServer) -> None:
    server.opinion = likes_fine
    server.faults["label"] = ["not_json"]
    preference = compare(server, GOOD, BAD)
    assert preference.status is Status.PARSE_ERROR
    assert (preference.p_first, preference.order_gap, preference.preferred) == (None, None, None)


def test_only_two_answers_to_one_task_can_be_compared(server: FaultServer) -> None:
    for other in (GOOD, Candidate("bad", "another task", "x = 'poor'")):
        with pytest.raises(JudgeError, match="can't be compared"):
            compare(server, GOOD, other)


def test_two_judgements_of_one_order_cannot_be_combined(server: FaultServer) -> None:
    server.opinion = likes_fine
    first = compare(server, GOOD, BAD).judgements[0]
    with pytest.raises(ValueError, match="two orders"):
        combine_orders(first, first, 0.25)
