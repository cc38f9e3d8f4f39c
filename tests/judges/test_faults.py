"""Every fault ends in its own status, and none in a score."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from judges import Candidate, Judge, JudgeError, Judgement, Status, load_rubric
from judges import client as client_module
from tests.judges.fault_server import FaultServer

RUBRIC = load_rubric("code_quality")
CANDIDATE = Candidate("c", "Add two numbers.", "def add(a, b):\n    return a + b")


def score(url: str, candidate: Candidate = CANDIDATE, **options: Any) -> Judgement:
    async def run() -> Judgement:
        async with Judge(url, "m", RUBRIC, **options) as judge:
            return await judge.score(candidate)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("step", "fault", "status"),
    [
        ("tokenize", "500", Status.INFRA_ERROR),
        ("tokenize", "not_json", Status.PARSE_ERROR),
        ("rationale", "500", Status.INFRA_ERROR),
        ("rationale", "503", Status.INFRA_ERROR),
        ("rationale", "429", Status.INFRA_ERROR),
        ("rationale", "400", Status.INFRA_ERROR),
        ("rationale", "hang_up", Status.INFRA_ERROR),
        ("rationale", "not_json", Status.PARSE_ERROR),
        ("rationale", "no_choices", Status.PARSE_ERROR),
        ("rationale", "empty", Status.PARSE_ERROR),
        ("rationale", "blank", Status.PARSE_ERROR),
        ("rationale", "refusal", Status.REFUSED),
        ("rationale", "refusal_in_words", Status.REFUSED),
        ("rationale", "filtered", Status.REFUSED),
        ("rationale", "abort", Status.INFRA_ERROR),
        ("rationale", "truncated", Status.TRUNCATED),
        ("rationale", "too_long", Status.TRUNCATED),
        ("label", "500", Status.INFRA_ERROR),
        ("label", "hang_up", Status.INFRA_ERROR),
        ("label", "not_json", Status.PARSE_ERROR),
        ("label", "empty", Status.PARSE_ERROR),
        ("label", "abort", Status.INFRA_ERROR),
        ("label", "refusal", Status.REFUSED),
        ("label", "too_long", Status.TRUNCATED),
        ("label", "unconstrained", Status.PARSE_ERROR),
        ("label", "no_logprobs", Status.PARSE_ERROR),
        ("label", "other_logprobs", Status.PARSE_ERROR),
    ],
)
def test_a_fault_has_a_status_and_no_score(
    server: FaultServer, step: str, fault: str, status: Status
) -> None:
    server.always[step] = fault
    judgement = score(server.url)
    assert judgement.status is status
    assert judgement.score is None
    assert judgement.detail


@pytest.mark.parametrize("fault", ["500", "hang_up", "429"])
@pytest.mark.parametrize("step", ["tokenize", "rationale", "label"])
def test_a_passing_fault_of_the_transport_is_tried_again(
    server: FaultServer, step: str, fault: str
) -> None:
    server.faults[step] = [fault, fault]
    assert score(server.url).score == 3.0


@pytest.mark.parametrize("fault", ["not_json", "empty", "unconstrained", "400"])
def test_an_answer_is_never_asked_for_again(server: FaultServer, fault: str) -> None:
    server.faults["label"] = [fault]
    assert score(server.url).score is None
    assert len(server.sent("label")) == 1


def test_tries_end(server: FaultServer) -> None:
    server.always["rationale"] = "500"
    judgement = score(server.url)
    assert len(server.sent("rationale")) == client_module.ATTEMPTS
    assert "500" in judgement.detail


def test_no_server_is_an_infra_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACKOFF_S", 0.01)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert score(f"http://127.0.0.1:{port}/v1").status is Status.INFRA_ERROR


def test_a_silent_server_is_an_infra_error(server: FaultServer) -> None:
    server.hold.clear()
    judgement = score(server.url, timeout_s=0.1)
    assert judgement.status is Status.INFRA_ERROR
    assert "Timeout" in judgement.detail


@pytest.mark.parametrize("step", ["tokenize", "rationale"])
@pytest.mark.parametrize("fault", ["301", "307", "401", "404"])
def test_a_wrong_key_or_model_stops_everything(server: FaultServer, step: str, fault: str) -> None:
    server.always[step] = fault
    with pytest.raises(JudgeError, match=fault):
        score(server.url)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't provide a review of this code.",
        "I cannot review this.",
        "I'm not able to help with that.",
        "Unfortunately, I can't do this.",
        "I must decline to grade it.",
        "Sorry, I won't judge this.",
    ],
)
def test_a_refusal_in_other_words_is_one(server: FaultServer, text: str) -> None:
    server.rationale = lambda messages: text
    assert score(server.url).status is Status.REFUSED


@pytest.mark.parametrize(
    "text",
    [
        "I can't see a check for empty input; it cannot help users.",
        "I can't help but note that it is slow.",
        "It is unfortunately wrong.",
        "Unfortunately, I can't see a check for empty input.",
        "Sorry, but I can't find a flaw.",
        "I cannot provide a full score, since it fails for empty input.",
    ],
)
def test_a_review_that_says_cannot_is_not_a_refusal(server: FaultServer, text: str) -> None:
    server.rationale = lambda messages: text
    assert score(server.url).status is Status.OK


def test_a_rationale_that_fills_its_cap_is_no_fault(server: FaultServer) -> None:
    server.always["rationale"] = "truncated"
    assert score(server.url, rationale_tokens=2).status is Status.OK


def test_usage_of_a_failed_judgement_is_counted(server: FaultServer) -> None:
    server.always["label"] = "500"
    assert score(server.url).usage.to_row() == {
        "prompt_tokens": 100,
        "completion_tokens": 7,
        "requests": 1,
    }


def test_a_lone_surrogate_in_the_candidate_can_be_sent(server: FaultServer) -> None:
    assert score(server.url, Candidate("c", "t", "x = '\ud800'")).status is Status.OK


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"rationale_tokens": 0}, {"injection_threshold": 1.5}]
)
def test_arguments_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(JudgeError):
        Judge("http://127.0.0.1:1", "m", RUBRIC, **options)
    with pytest.raises(JudgeError, match="not an http"):
        Judge("localhost:8000", "m", RUBRIC)
