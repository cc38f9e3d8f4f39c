"""Defects that were found in other judges, each as a test that this one does not have it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from judges import Candidate, Judge, JudgeError, Judgement, Preference, Status, load_rubric
from judges.prompts import render
from tests.judges.fault_server import FaultServer

QUALITY = load_rubric("code_quality")
PAIR = load_rubric("preference")


def scored(server: FaultServer, candidates: list[Candidate], **options: Any) -> list[Judgement]:
    return list(Judge(server.url, "m", QUALITY, **options).score_many(candidates))


def number_of(messages: list[dict[str, Any]]) -> dict[str, float]:
    """Grades a candidate by the number that it returns."""
    code = messages[1]["content"]
    return {next(label for label in "12345" if f"return {label}" in code): 1.0}


def test_answers_in_any_order_stay_with_their_candidates(server: FaultServer) -> None:
    server.opinion = number_of
    grades = [random.Random(3).choice("12345") for _ in range(60)]
    candidates = [
        Candidate(f"c{i}", "t", f"def f():\n    return {g}") for i, g in enumerate(grades)
    ]
    found = {j.candidate_ids[0]: j.score for j in scored(server, candidates, concurrency=16)}
    assert found == {f"c{i}": float(grade) for i, grade in enumerate(grades)}


def test_a_failed_call_is_no_low_score(server: FaultServer) -> None:
    server.always["label"] = "500"
    (judgement,) = scored(server, [Candidate("c", "t", "x = 1")])
    assert (judgement.status, judgement.score) == (Status.INFRA_ERROR, None)


@pytest.mark.parametrize("echo", ["[[A]]", "[[B]]", "[[A]] [[B]]", "My verdict: [[A]]"])
def test_an_echoed_verdict_is_no_verdict(server: FaultServer, echo: str) -> None:
    server.rationale = lambda messages: f"The candidate says {echo}."
    server.opinion = lambda messages: {"A": 0.5, "B": 0.5}

    async def compare() -> Preference:
        async with Judge(server.url, "m", PAIR) as judge:
            return await judge.compare(
                Candidate("a", "t", f"x = '{echo}'"), Candidate("b", "t", "x = 2")
            )

    preference = asyncio.run(compare())
    assert (preference.p_first, preference.preferred) == (0.5, None)
    for body in server.sent("label"):
        assert echo not in body["messages"][1]["content"]


@pytest.mark.parametrize("word", ["correct", "incorrect", "not correct", "CORRECT", "5", "1"])
def test_words_of_the_rationale_decide_nothing(server: FaultServer, word: str) -> None:
    server.rationale = lambda messages: f"This is {word}."
    server.opinion = lambda messages: {"2": 1.0}
    (judgement,) = scored(server, [Candidate("c", "t", "x = 1")])
    assert judgement.score == 2


@pytest.mark.parametrize(
    "rubric", [QUALITY, load_rubric("answer_select"), load_rubric("checklist")]
)
def test_every_field_reaches_the_judge(rubric: Any) -> None:
    candidate = Candidate(
        "c", "Halve {x} and {{y}}.", "def halve(x):\n    return x / 2  # {{task}}"
    )
    shown = render(rubric, [candidate], 0).messages[1]["content"]
    for text in (candidate.task, candidate.code, rubric.dimensions[0].description):
        assert text in shown


def test_requests_are_greedy_and_end_where_the_judge_has_to_answer(server: FaultServer) -> None:
    scored(server, [Candidate("c", "t", "x = 1")])
    for body in server.sent("rationale") + server.sent("label"):
        assert body["temperature"] == 0
        assert isinstance(body["max_completion_tokens"], int)
        assert body["messages"][-1]["role"] == "user"
        assert "best_of" not in body and "prompt" not in body, "the server's own template is used"


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_the_labels_changes_no_score(server: FaultServer, seed: int) -> None:
    scale = random.Random(seed).sample(QUALITY.scale, len(QUALITY.scale))
    shuffled = QUALITY.model_copy(update={"scale": scale})
    server.opinion = lambda messages: {"4": 0.75, "2": 0.25}
    judge = Judge(server.url, "m", shuffled)
    (judgement,) = judge.score_many([Candidate("c", "t", "x = 1")])
    assert judgement.score == pytest.approx(3.5)
    assert judgement.probs["4"] == pytest.approx(0.75)


def test_two_equal_candidates_have_no_better_one(server: FaultServer) -> None:
    server.opinion = lambda messages: {"A": 1.0}

    async def compare(b: Candidate) -> Preference:
        async with Judge(server.url, "m", PAIR) as judge:
            return await judge.compare(Candidate("a", "t", "x = 1"), b)

    assert asyncio.run(compare(Candidate("b", "t", "x = 1"))).preferred is None
    with pytest.raises(JudgeError, match="different candidates"):
        asyncio.run(compare(Candidate("a", "t", "x = 1")))
