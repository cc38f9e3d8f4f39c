"""Which samples the judge stage looks at; what it makes of them is tested with the judges."""

from __future__ import annotations

import json
from pathlib import Path

from align import rows as schemas
from align.artifacts import Identity, write_parquet
from align.judging import run
from align.settings import JudgeSettings
from align.stage import Output
from align.tables import read_rows
from tests.test_preference import GOOD, sample, verdict
from tests.tiny import build_tiny_model
from tests.training_context import QuietContext


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
