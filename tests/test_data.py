"""The data stage: bad rows are listed, benchmarks stay out, problems are split."""

import json
from pathlib import Path
from typing import Any

import pytest

from align.data import run
from align.data.chat_rows import chat_fault
from align.data.decontaminate import BenchmarkIndex
from align.errors import InputError
from align.settings import DataSettings
from align.stage import Output, Summary
from align.tables import read_rows
from tests.conftest import RecordingContext

DEMO = Path(__file__).parent.parent / "recipes" / "demo"


def chat(question: str, answer: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "source": "test", "licence": "Apache-2.0"}


def task(name: str, **more: Any) -> dict[str, Any]:
    tests = {"kind": "calls", "cases": [{"args": [1], "kwargs": {}, "expected": 2}]}
    return {
        "task_id": name,
        "language": "python",
        "messages": [{"role": "user", "content": f"Write {name}."}],
        "entry_point": "f",
        "tests": tests,
        "reference": "def f(x):\n    return x + 1\n",
        **more,
    }


def write(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def stage(
    output: Output, context: RecordingContext, rows: Path | None, tasks: Path | None, **more: Any
) -> Summary:
    inputs = {}
    if rows:
        inputs["rows.0"] = rows
    if tasks:
        inputs["tasks.0"] = tasks
    settings = DataSettings(
        rows=[str(rows)] if rows else [], tasks=[str(tasks)] if tasks else [], **more
    )
    return run(settings, inputs, output, context)


def table(output: Output, name: str) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(output.path / name)]


def test_rows_keep_their_origin_and_licence(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    rows = write(tmp_path / "chats.jsonl", [chat("a?", "b."), chat("c?", "d.")])
    summary = stage(output, context, rows, None)
    assert summary.counts["rows"] == 2
    found = {row["messages"][0]["content"]: row for row in table(output, "rows")}
    assert json.loads(found["c?"]["origin"]) == {
        "source": "test",
        "file": "chats.jsonl",
        "line": "2",
    }
    assert found["c?"]["licence"] == "Apache-2.0"


def test_bad_rows_are_counted_and_listed_with_their_place(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    bad = {"messages": [{"role": "assistant", "content": "no question"}]}
    rows = write(tmp_path / "chats.jsonl", [chat("a?", "b."), bad, {}, chat("a?", "b.")])
    summary = stage(output, context, rows, None)
    assert summary.counts["rows"] == 1
    assert summary.counts["bad_row"] == 2
    assert summary.counts["duplicate"] == 1
    assert summary.details["skipped"][0]["place"].endswith("chats.jsonl:2")
    assert [event for event, _ in context.events] == ["skip"] * 3


def test_a_line_that_is_no_json_is_an_error_with_its_place(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    rows = write(tmp_path / "chats.jsonl", [chat("a?", "b."), "{broken"])
    with pytest.raises(InputError, match=r"chats\.jsonl:2 is no JSON"):
        stage(output, context, rows, None)


def test_a_corrupt_parquet_is_a_clear_error(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 this is no parquet PAR1")
    with pytest.raises(InputError, match=r"rows\.parquet can't be read as parquet"):
        stage(output, context, path, None)


def test_nothing_usable_says_why(tmp_path: Path, output: Output, context: RecordingContext) -> None:
    rows = write(tmp_path / "chats.jsonl", [{"text": "no messages"}])
    with pytest.raises(InputError, match=r"no usable row.*chats\.jsonl:1: messages must be"):
        stage(output, context, rows, None)


def test_an_empty_dataset_is_an_error(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    rows = write(tmp_path / "chats.jsonl", [])
    with pytest.raises(InputError, match="the tables are empty"):
        stage(output, context, rows, None)


def test_malformed_tests_are_skipped_and_named(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    tasks = [task("good"), task("bad", tests={"kind": "magic"}), task("worse", tests="{")]
    summary = stage(output, context, None, write(tmp_path / "tasks.jsonl", tasks))
    assert summary.counts["tasks"] == 1
    assert summary.counts["bad_task"] == 2
    assert "tasks.jsonl:2" in summary.details["skipped"][0]["place"]
    assert "tests" in summary.details["skipped"][0]["reason"]


def test_two_tasks_with_one_id_are_refused_with_both_places(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    tasks = write(tmp_path / "tasks.jsonl", [task("same"), task("same")])
    with pytest.raises(InputError, match=r"jsonl:2: task same stands already at .*jsonl:1"):
        stage(output, context, None, tasks)


def test_the_split_is_by_problem_and_stable(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    tasks = write(tmp_path / "tasks.jsonl", [task(f"t{n}") for n in range(200)])
    summary = stage(output, context, None, tasks, held_out=0.2)
    assert summary.counts["tasks"] + summary.counts["held_out"] == 200
    assert 20 <= summary.counts["held_out"] <= 60
    held = {row["task_id"] for row in table(output, "held_out")}
    more = write(tmp_path / "more.jsonl", [task(f"t{n}") for n in range(300)])
    again = Output(tmp_path / "again", output.identity)
    stage(again, context, None, more, held_out=0.2)
    assert {name for name in held} <= {row["task_id"] for row in table(again, "held_out")}


def test_a_copied_benchmark_problem_is_taken_out_of_rows_and_tasks(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    humaneval = BenchmarkIndex(10)
    humaneval.add_benchmark("humaneval")
    copied = (
        "Check if in given list of numbers, are any two numbers closer to each other than given "
        "threshold."
    )
    assert humaneval.find([copied]) is not None
    rows = write(tmp_path / "chats.jsonl", [chat(copied, "Yes."), chat("a?", "b.")])
    named = task("named", reference="def has_close_elements(x):\n    return x + 1\n")
    tasks = write(tmp_path / "tasks.jsonl", [named, task("good")])
    summary = stage(output, context, rows, tasks)
    assert summary.counts["contaminated"] == 2
    assert [row["task_id"] for row in table(output, "tasks")] == ["good"]
    reasons = [skip["reason"] for skip in summary.details["skipped"]]
    assert any("HumanEval/0: 10 words" in reason for reason in reasons)
    assert any("defines has_close_elements" in reason for reason in reasons)


def test_layout_does_not_hide_a_copy() -> None:
    index = BenchmarkIndex(5)
    index.add_benchmark("humaneval")
    text = "for idx,elem in   enumerate( numbers ):\n\n for idx2, elem2"
    assert index.find([text]) is not None


def test_an_unknown_benchmark_is_an_error() -> None:
    with pytest.raises(InputError, match="benchmark nothing"):
        BenchmarkIndex(10).add_benchmark("nothing")


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([], "non-empty"),
        ([{"role": "user", "content": "a"}], "assistant last"),
        ([{"role": "tool", "content": "a"}], "role"),
        ([{"role": "user", "content": " "}], "content"),
        ([{"role": "system", "content": "a"}], "assistant last"),
    ],
)
def test_chat_faults_are_explained(messages: list[dict[str, str]], fault: str) -> None:
    assert fault in str(chat_fault(messages))


def test_the_demo_data_is_large_enough_and_clean(output: Output, context: RecordingContext) -> None:
    summary = stage(output, context, DEMO / "instructions.jsonl", DEMO / "tasks")
    assert summary.counts["rows"] >= 200
    assert summary.counts["tasks"] >= 120
    assert set(summary.counts) == {"rows", "tasks", "held_out"}, summary.details["skipped"]
