"""From a judge behind HTTP to pairs: its opinion orders what execution can't, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from align import rows as schemas
from align.artifacts import Identity, write_parquet
from align.judging import run as judge
from align.manifest import CALIBRATION
from align.settings import JudgeSettings
from align.stage import Output
from tests.conftest import RecordingContext
from tests.judges.fault_server import Body, FaultServer
from tests.pair_rows import BAD, BETTER, GOOD, WORSE, build, sample, verdict

SAMPLES = [sample("a", GOOD), sample("b", BETTER), sample("c", BAD)]
SAMPLES += [sample("x", GOOD, task_id="open"), sample("y", BETTER, task_id="open")]
SAMPLES += [sample("z", WORSE)]
VERDICTS = [
    verdict("a", "accepted"),
    verdict("b", "accepted"),
    verdict("c", "wrong_answer"),
    verdict("z", "infra_error"),
]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    server = FaultServer()
    yield server
    server.close()


def pairs_by(server: FaultServer, folder: Path, favourite: str) -> dict[str, set[tuple[str, str]]]:
    """Returns the pairs by rule where the judge gives its best label to what holds `favourite`."""

    def opinion(messages: list[Body]) -> dict[str, float]:
        read = "\n".join(message["content"] for message in messages)
        return {"5": 1.0} if favourite in read else {"1": 1.0}

    server.opinion = opinion
    folder.mkdir()
    write_parquet(folder / "s.parquet", SAMPLES, schemas.SAMPLE)
    write_parquet(folder / "v.parquet", VERDICTS, schemas.VERDICT)
    tasks = [
        {"task_id": each, "messages": [{"role": "user", "content": each}]} for each in ("t", "open")
    ]
    (folder / "tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)), encoding="utf-8")
    inputs = {
        "samples": folder / "s.parquet",
        "verdicts": folder / "v.parquet",
        "tasks": folder / "tasks.jsonl",
    }
    (folder / "judge").mkdir()
    settings = JudgeSettings(endpoint=server.url, model="scripted")
    judge(settings, inputs, Output(folder / "judge", Identity("judge", "c")), RecordingContext())
    tables = {"judgements": folder / "judge" / "judgements", "tasks": folder / "tasks.jsonl"}
    rules = ["exec_strict", "judge_within_accepted", "judge_open"]
    _, pairs = build(folder / "pair", SAMPLES, VERDICTS, tables=tables, rules=rules)
    made: dict[str, set[tuple[str, str]]] = {}
    for row in pairs:
        sides = (row["chosen_sample_id"], row["rejected_sample_id"])
        made.setdefault(row["rule"], set()).add(sides)
    return made


def test_a_judge_decides_what_execution_leaves_open(server: FaultServer, tmp_path: Path) -> None:
    long_names = pairs_by(server, tmp_path / "long", "number + 1")
    short_names = pairs_by(server, tmp_path / "short", "x + 1")
    wrong_ones = pairs_by(server, tmp_path / "wrong", "return x\n")
    assert long_names["judge_within_accepted"] == {("b", "a")}
    assert short_names["judge_within_accepted"] == {("a", "b")}
    assert long_names["judge_open"] == {("y", "x")}
    assert short_names["judge_open"] == {("x", "y")}
    by_execution = {("a", "c"), ("b", "c")}
    assert long_names["exec_strict"] == short_names["exec_strict"] == by_execution
    assert wrong_ones == {"exec_strict": by_execution}


def test_a_judge_of_the_policys_family_stands_in_the_card(
    server: FaultServer, tmp_path: Path
) -> None:
    server.opinion = lambda messages: {"3": 1.0}
    policy = {"model": "Qwen/Qwen2.5-Coder-0.5B", "weights_sha": "w", "adapter_sha": None}
    samples = [{**sample(name, code), "policy": policy} for name, code in (("a", GOOD), ("c", BAD))]
    verdicts = [verdict("a", "accepted"), verdict("c", "wrong_answer")]
    write_parquet(tmp_path / "samples.parquet", samples, schemas.SAMPLE)
    write_parquet(tmp_path / "verdicts.parquet", verdicts, schemas.VERDICT)
    task = {"task_id": "t", "messages": [{"role": "user", "content": "add one"}]}
    (tmp_path / "tasks.jsonl").write_text(json.dumps(task), encoding="utf-8")
    names = {"samples": "samples.parquet", "verdicts": "verdicts.parquet", "tasks": "tasks.jsonl"}
    inputs = {name: tmp_path / file for name, file in names.items()}
    for model, kin in (("org/Granite-8B", False), ("Qwen/Qwen3-Coder-30B", True)):
        folder = tmp_path / model.replace("/", "-")
        folder.mkdir()
        context = RecordingContext()
        settings = JudgeSettings(endpoint=server.url, model=model)
        judge(settings, inputs, Output(folder, Identity("judge", "c")), context)
        assert any("of the policy's own family (qwen)" in text for text in context.warnings) == kin
        shutil.copy(folder / CALIBRATION, folder / f"judgements.{CALIBRATION}")
        build(folder, samples, verdicts, tables={"judgements": folder / "judgements"})
        card = (folder / "out" / "README.md").read_text(encoding="utf-8")
        assert ("of the policy's own family (qwen)" in card) == kin
