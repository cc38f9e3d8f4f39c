"""Which samples the judge stage looks at; what it makes of them is tested with the judges."""

from __future__ import annotations

import json
import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from align import guard
from align import rows as schemas
from align.artifacts import Identity, write_parquet
from align.asking import JudgeAsker
from align.judging import run
from align.serving import Servers
from align.settings import JudgeSettings
from align.stage import Output
from align.tables import read_rows
from judges import AnswerCache, Candidate, Rubric, Status
from tests.live import LiveContext
from tests.pair_rows import GOOD, sample, verdict
from tests.tiny import build_tiny_model
from tests.training_context import QuietContext

RUBRIC = Rubric.model_validate(
    {
        "name": "short",
        "version": 1,
        "kind": "pointwise",
        "scale": [
            {"label": "1", "value": 1.0, "meaning": "bad"},
            {"label": "2", "value": 2.0, "meaning": "good"},
        ],
        "dimensions": [{"name": "all", "weight": 1, "description": "all of it"}],
        "system": "Grade.",
        "template": "{{dimensions}}\n{{scale}}\n{{task}}\n{{candidate}}",
        "question": "1 or 2?",
    }
)


def test_where_everything_was_executed_no_judge_is_started_for_open_tasks(tmp_path: Path) -> None:
    one = sample("a", GOOD)
    write_parquet(tmp_path / "samples.parquet", [one], schemas.SAMPLE)
    write_parquet(tmp_path / "verdicts.parquet", [verdict("a", "accepted")], schemas.VERDICT)
    task = {"task_id": one["task_id"], "messages": [{"role": "user", "content": "Add one."}]}
    (tmp_path / "tasks.jsonl").write_text(json.dumps(task) + "\n", encoding="utf-8")
    inputs = {name: tmp_path / f"{name}.parquet" for name in ("samples", "verdicts")}
    inputs |= {"tasks": tmp_path / "tasks.jsonl", "model": build_tiny_model(tmp_path / "tiny")}
    (tmp_path / "out").mkdir()
    out = Output(tmp_path / "out", Identity("judge.fine", "c"))
    summary = run(JudgeSettings(executed=False), inputs, out, QuietContext())  # serves no model
    assert summary.counts == {"judged": 0}
    assert list(read_rows(tmp_path / "out" / "judgements")) == []


@pytest.mark.vllm
@pytest.mark.slow
def test_a_server_killed_in_the_middle_costs_no_judgement_and_repeats_none(
    live_servers: Servers, model_folder: Path, tmp_path: Path
) -> None:
    many = 500
    (tmp_path / "out").mkdir()
    candidates = [Candidate(f"c{i}", "Add.", f"x = {i}") for i in range(many)]
    settings = JudgeSettings(rationale_tokens=4)
    context = LiveContext(live_servers)
    judged: list[str] = []
    with closing(AnswerCache(tmp_path / "out" / "answers.jsonl")) as answers:
        asker = JudgeAsker(settings, {"model": model_folder}, context, answers)
        for judgement in asker.score(RUBRIC, candidates):
            assert judgement.status is Status.OK, judgement.detail
            judged.extend(judgement.candidate_ids)
            if len(judged) == many // 4:
                assert live_servers.pid is not None
                os.kill(guard.descendants(live_servers.pid)[0], signal.SIGKILL)
    assert sorted(judged) == sorted(each.candidate_id for each in candidates)
    asked = [line for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert len(asked) == len(set(asked)) == 2 * many, "each request was answered once"
