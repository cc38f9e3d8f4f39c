"""A checklist: one rationale, a yes or no to each item, a weighted mean."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from judges import Candidate, Judge, Judgement, Status, load_rubric
from tests.judges.fault_server import FaultServer

RUBRIC = load_rubric("checklist").model_copy(
    update={
        "scale": [
            entry.model_copy(update={"label": entry.label[0]})
            for entry in load_rubric("checklist").scale
        ]
    }
)


def judged(server: FaultServer) -> Judgement:
    async def run() -> Judgement:
        async with Judge(server.url, "m", RUBRIC) as judge:
            return await judge.score(Candidate("row", "Sort a list.", "sorted(x)", "text"))

    return asyncio.run(run())


def yes_to(*words: str) -> Any:
    def opinion(messages: list[dict[str, Any]]) -> dict[str, float]:
        yes = any(word in messages[-1]["content"] for word in words)
        return {"Y": 0.75, "N": 0.25} if yes else {"N": 1.0}

    return opinion


def test_each_item_has_its_probability_and_the_score_is_their_mean(server: FaultServer) -> None:
    server.opinion = yes_to("hold code", "clear, complete")
    judgement = judged(server)
    assert judgement.status is Status.OK
    assert judgement.probs.keys() == {dimension.name for dimension in RUBRIC.dimensions}
    assert judgement.probs["code_exists"] == judgement.probs["clarity"] == pytest.approx(0.75)
    assert judgement.probs["style"] == 0
    assert judgement.score == pytest.approx(2 * 0.75 / 9)
    assert len(server.sent("rationale")) == 1 and len(server.sent("label")) == 9
    assert judgement.usage.requests == 10


def test_all_label_requests_continue_one_beginning(server: FaultServer) -> None:
    judged(server)
    beginnings = {str(body["messages"][:3]) for body in server.sent("label")}
    assert len(beginnings) == 1


def test_one_item_without_an_answer_leaves_no_score(server: FaultServer) -> None:
    server.opinion = yes_to("code")
    server.faults["label"] = ["unconstrained"]
    judgement = judged(server)
    assert (judgement.status, judgement.score, judgement.probs) == (Status.PARSE_ERROR, None, {})
    assert judgement.usage.requests == 10, "what was answered was paid for"
