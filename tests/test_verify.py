"""The verify stage, in a real sandbox: outcomes, skips, resume, repeats."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from align.artifacts import Identity
from align.errors import ArtifactError, InputError
from align.settings import VerifySettings
from align.skips import Skips
from align.stage import Output, Summary
from align.tables import read_rows
from align.verify import check_samples, run
from sandbox import Outcome, Sandbox, SandboxError, parse_task
from tests.conftest import RecordingContext

TASK = {
    "task_id": "add",
    "messages": [{"role": "user", "content": "Add one."}],
    "entry_point": "f",
    "tests": {
        "kind": "calls",
        "cases": [{"args": [n], "kwargs": {}, "expected": n + 1} for n in range(3)],
    },
    "reference": "def f(x):\n    return x + 1\n",
}
GOOD = "def f(x):\n    return x + 1\n"


class BoxContext(RecordingContext):
    """A context with a real sandbox; it counts how often it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    @contextmanager
    def sandbox(self) -> Iterator[Sandbox]:
        self.opened += 1
        with Sandbox(engine="namespaces", isolation="ns", workers=2) as box:
            yield box


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def verify(
    folder: Path, samples: list[dict[str, Any]], context: RecordingContext, **settings: Any
) -> tuple[Summary, dict[int, dict[str, Any]]]:
    untested = {**TASK, "task_id": "untested", "tests": None}
    inputs = {
        "tasks": write(folder / "tasks.jsonl", [TASK, untested]),
        "samples": write(folder / "samples.jsonl", samples),
    }
    output = Output(folder / "out", Identity("verify", "config"))
    summary = run(VerifySettings(**settings), inputs, output, context)
    return summary, {row["sample_index"]: row for _, row in read_rows(folder / "out" / "verdicts")}


def sample(index: int, code: str | None, **more: Any) -> dict[str, Any]:
    return {"task_id": "add", "sample_index": index, "code": code, **more}


def test_outcomes_come_from_running_the_code(tmp_path: Path) -> None:
    summary, verdicts = verify(
        tmp_path,
        [
            sample(0, GOOD),
            sample(1, "def f(x):\n    return x\n"),
            sample(2, "def f(x):\n    raise ValueError(x)\n"),
            sample(3, "def f(x:\n"),
            sample(4, None),
            {"task_id": "add", "sample_index": 5, "text": f"Here it is:\n```python\n{GOOD}```"},
        ],
        BoxContext(),
    )
    assert {index: row["outcome"] for index, row in verdicts.items()} == {
        0: "accepted",
        1: "wrong_answer",
        2: "runtime_error",
        3: "compile_error",
        4: "no_code",
        5: "accepted",
    }
    assert summary.details["outcomes"]["accepted"] == 2
    assert verdicts[0]["passed"] == verdicts[0]["total"] == 3
    assert verdicts[0]["isolation"] == "ns"
    assert verdicts[0]["strength"] == "strong"
    assert len(verdicts[0]["test_ms"]) == 3
    assert json.loads(verdicts[1]["tests"])[1] == {
        "index": 1,
        "outcome": "wrong_answer",
        "detail": json.loads(verdicts[1]["tests"])[1]["detail"],
    }


def test_an_answer_to_a_raw_prompt_goes_on_from_it(tmp_path: Path) -> None:
    task = {**TASK, "task_id": "raw", "messages": None, "prompt": "def f(x):\n"}
    rows = [
        {"task_id": "raw", "sample_index": 0, "text": "    return x + 1\n\ndef half("},
        {"task_id": "add", "sample_index": 1, "prefill": "```python\n", "text": f"{GOOD}```\nSo."},
    ]
    tasks = {"raw": parse_task(task), "add": parse_task(TASK)}
    found = check_samples(write(tmp_path / "s.jsonl", rows), tasks, Skips(RecordingContext()))
    assert [row["code"].rstrip("\n") for row in found] == [GOOD.rstrip("\n")] * 2


def test_samples_that_can_not_run_are_listed(tmp_path: Path) -> None:
    summary, verdicts = verify(
        tmp_path,
        [
            sample(0, GOOD),
            sample(1, GOOD, task_id="nobody"),
            sample(2, GOOD, task_id="untested"),
            {"task_id": "add", "code": GOOD},
            {"task_id": "add", "sample_index": 4},
        ],
        BoxContext(),
    )
    assert list(verdicts) == [0]
    assert summary.counts["unknown_task"] == 1
    assert summary.counts["no_tests"] == 1
    assert summary.counts["bad_sample"] == 2
    assert "no task nobody" in summary.details["skipped"][0]["reason"]


def test_two_samples_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"jsonl:2: sample twin stands already at .*jsonl:1"):
        verify(
            tmp_path,
            [sample(0, GOOD, sample_id="twin"), sample(1, GOOD, sample_id="twin")],
            RecordingContext(),
        )


def test_no_sample_at_all_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sample to run: the tables are empty"):
        verify(tmp_path, [], RecordingContext())


def test_a_malformed_task_is_named(tmp_path: Path) -> None:
    tasks = write(tmp_path / "tasks.jsonl", [{**TASK, "tests": {"kind": "calls", "cases": []}}])
    samples = write(tmp_path / "samples.jsonl", [sample(0, GOOD)])
    output = Output(tmp_path / "out", Identity("verify", "config"))
    with pytest.raises(InputError, match=r"tasks\.jsonl:1: task add: tests\.cases"):
        run(VerifySettings(), {"tasks": tasks, "samples": samples}, output, RecordingContext())


def test_a_done_stage_opens_no_sandbox_again(tmp_path: Path) -> None:
    context = BoxContext()
    first, _ = verify(tmp_path, [sample(0, GOOD)], context)
    second, _ = verify(tmp_path, [sample(0, GOOD)], context)
    assert context.opened == 1
    assert second.content_sha == first.content_sha


def test_runs_that_disagree_are_flaky(tmp_path: Path) -> None:
    # A coin for each run: 24 of them agree once in eight million times.
    moody = "import os\ncoin = os.urandom(1)[0] % 2\ndef f(x):\n    return x + coin\n"
    _, verdicts = verify(tmp_path, [sample(0, moody), sample(1, GOOD)], BoxContext(), repeat=24)
    assert verdicts[0]["outcome"] == "flaky"
    assert "runs disagree" in verdicts[0]["detail"]
    assert verdicts[1]["outcome"] == "accepted"


def test_each_run_of_a_repeated_sample_is_timed(tmp_path: Path) -> None:
    _, verdicts = verify(tmp_path, [sample(0, GOOD)], BoxContext(), repeat=3)
    assert verdicts[0]["outcome"] == "accepted"
    assert len(verdicts[0]["run_cpu_ms"]) == 3
    assert verdicts[0]["run_cpu_ms"][0] == verdicts[0]["cpu_ms"]


class DyingBox:
    """A sandbox that fails the second program, and stops at the third."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box

    def run_many(self, jobs: Any, repeat: int) -> Any:
        for number, (key, verdict) in enumerate(self._box.run_many(jobs, repeat=repeat)):
            if number == 1:
                verdict = dataclasses.replace(verdict, outcome=Outcome.INFRA_ERROR, detail="full")
            if number == 2:
                raise SandboxError("no engine answers")
            yield key, verdict


class DyingContext(RecordingContext):
    @contextmanager
    def sandbox(self) -> Iterator[Any]:
        with Sandbox(engine="namespaces", isolation="ns", workers=1) as box:
            yield DyingBox(box)


def test_what_a_stopped_sandbox_failed_is_run_again_by_the_next_command(tmp_path: Path) -> None:
    samples = [sample(n, f"{GOOD}# {n}") for n in range(4)]
    with pytest.raises(ArtifactError, match="the sandbox stopped: no engine answers"):
        verify(tmp_path, samples, DyingContext())
    summary, verdicts = verify(tmp_path, samples, BoxContext())
    assert summary.details["outcomes"] == {"accepted": 4}, verdicts
