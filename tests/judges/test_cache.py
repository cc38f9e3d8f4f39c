"""Answers are kept through a kill; what was answered is not asked again."""

import asyncio
from pathlib import Path

import pytest

from judges import AnswerCache, Judge, JudgeError
from tests.judges.fault_server import FaultServer
from tests.judges.test_faults import CANDIDATE, RUBRIC, score


def test_answers_survive_being_opened_again(tmp_path: Path) -> None:
    first = AnswerCache(tmp_path / "answers.jsonl")
    first.put("a", '{"text": "é"}')
    # Not closed: a killed process closes nothing.
    assert AnswerCache(tmp_path / "answers.jsonl").get("a") == '{"text": "é"}'
    first.close()


def test_a_torn_last_line_is_left_out_and_harms_no_later_one(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    cache = AnswerCache(path)
    cache.put("a", "1")
    cache.put("b", "2")
    cache.close()
    path.write_bytes(path.read_bytes()[:-5])
    again = AnswerCache(path)
    assert (again.get("a"), again.get("b")) == ("1", None)
    again.put("c", "3")
    again.close()
    assert AnswerCache(path).get("c") == "3"


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.jsonl")
    with Path("/dev/full").open("wb", buffering=0) as full:
        cache._file = full
        with pytest.raises(JudgeError, match="disk refused"):
            cache.put("a", "1")
    assert cache.get("a") is None


def test_an_answered_request_is_not_sent_again(tmp_path: Path, server: FaultServer) -> None:
    cache = AnswerCache(tmp_path / "answers.jsonl")
    first = score(server.url, cache=cache)
    requests = len(server.sent("rationale")), len(server.sent("label"))
    assert score(server.url, cache=AnswerCache(tmp_path / "answers.jsonl")) == first
    assert (len(server.sent("rationale")), len(server.sent("label"))) == requests


def test_requests_that_are_alike_and_in_flight_are_sent_once(
    tmp_path: Path, server: FaultServer
) -> None:
    async def run() -> set[float | None]:
        cache = AnswerCache(tmp_path / "answers.jsonl")
        async with Judge(server.url, "m", RUBRIC, concurrency=4, cache=cache) as judge:
            judgements = await asyncio.gather(*(judge.score(CANDIDATE) for _ in range(6)))
        return {judgement.score for judgement in judgements}

    assert len(asyncio.run(run())) == 1
    assert (len(server.sent("rationale")), len(server.sent("label"))) == (1, 1)
