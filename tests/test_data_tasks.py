"""Tasks in the data stage: checked, kept out of benchmarks, split by problem, asked twice."""

import json
from pathlib import Path

import pytest

from align.errors import InputError
from align.stage import Output
from sandbox import parse_task
from tests.conftest import RecordingContext
from tests.data_stage import stage, table, task, write


def test_malformed_tests_are_skipped_and_named(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    tasks = [task("good"), task("bad", tests={"kind": "magic"}), task("worse", tests="{")]
    summary = stage(output, context, None, write(tmp_path / "tasks.jsonl", tasks))
    assert summary.counts["tasks"] == 1
    assert summary.counts["bad_task"] == 2
    assert "tasks.jsonl:2" in summary.details["skipped"][0]["place"]
    assert "tests" in summary.details["skipped"][0]["reason"]


def test_texts_of_tasks_are_read_from_json_and_half_characters_are_named(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    asked = [{"role": "user", "content": "Add one."}]
    tasks = [
        task("text", messages=json.dumps(asked)),
        task("half", messages=[{"role": "user", "content": "a\ud83d"}]),
        task("half\ud83d"),
    ]
    summary = stage(output, context, None, write(tmp_path / "tasks.jsonl", tasks))
    (made,) = table(output, "tasks")
    assert made["messages"] == asked
    assert summary.counts["bad_task"] == 2
    assert "half a character" in summary.details["skipped"][0]["reason"]


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
    stage(again, RecordingContext(5), None, more, held_out=0.2)
    assert held <= {row["task_id"] for row in table(again, "held_out")}, "another seed's, too"


def test_a_problem_is_held_out_in_all_its_forms_or_in_none(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    tasks = [task(name) for n in range(40) for name in (f"t{n}", f"t{n}/function")]
    stage(output, context, None, write(tmp_path / "tasks.jsonl", tasks), held_out=0.5)
    held = {row["task_id"] for row in table(output, "held_out")}
    assert 0 < len(held) < 80
    assert all(
        (name in held) == (f"{name}/function" in held) for name in [f"t{n}" for n in range(40)]
    )


def test_what_is_held_out_is_not_asked_in_training_by_another_name(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    shown = "\n\nYour code should pass this test:\n\n```python\nassert f(1) == 2\n```"
    asked = [{"role": "user", "content": f"Write twin.{shown}"}]
    tasks = [
        task("kept", split="held_out", messages=asked),
        task("twin"),
        task("other", split="train"),
        task("measured", split="test"),
    ]
    summary = stage(output, context, None, write(tmp_path / "tasks.jsonl", tasks))
    assert [row["task_id"] for row in table(output, "held_out")] == ["kept"]
    assert [row["task_id"] for row in table(output, "tasks")] == ["other"]
    reasons = {row["kind"]: row["reason"] for row in table(output, "dropped")}
    assert reasons["asked_in_held_out"] == "kept, which is held out, asks the same"
    assert "split test" in reasons["bad_task"]
    assert summary.counts["asked_in_held_out"] == summary.counts["bad_task"] == 1


def test_tests_keep_the_order_of_a_dict_s_keys(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    code = "def f(x):\n    return next(k for k, v in x.items() if v == max(x.values()))\n"
    tests = {"kind": "calls", "cases": [{"args": [{"b": 3, "a": 3}], "expected": "b"}]}
    path = write(tmp_path / "tasks.jsonl", [task("first", tests=tests, reference=code)])
    stage(output, context, None, path, function_form=True)
    plain, other = table(output, "tasks")
    assert json.loads(plain["tests"]) == tests
    assert plain["tests"].index('"b": 3') < plain["tests"].index('"a": 3')
    assert ">>> f({'b': 3, 'a': 3})\n    'b'" in other["messages"][0]["content"]
    swapped = {"kind": "calls", "cases": [{"args": [{"a": 3, "b": 3}], "expected": "b"}]}
    shas = {parse_task(plain | {"tests": each}).tests.sha for each in (tests, swapped)}  # type: ignore[union-attr]
    assert len(shas) == 2


def test_what_a_task_tells_of_a_benchmark_without_a_reference_is_found(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    called = task("called", reference=None, entry_point="has_close_elements")
    numbers = [1.0, 2.0, 3.9, 4.0, 5.0, 2.2]
    tests = {"kind": "calls", "cases": [{"args": [numbers, 0.3], "expected": True}]}
    code = "def near(x, y):\n    return True\n"
    shows = task("shows", tests=tests, entry_point="near", reference=code)
    path = write(tmp_path / "tasks.jsonl", [called, shows])
    summary = stage(output, context, None, path, function_form=True)
    assert [row["task_id"] for row in table(output, "tasks")] == ["shows"]
    assert summary.counts["contaminated"] == 2
    places = {hit["place"].rpartition("/")[2] for hit in table(output, "contamination")}
    assert places == {"tasks.jsonl:1", "tasks.jsonl:2, as a function"}


def test_tasks_to_train_on_are_asked_in_both_forms_where_wanted(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    tasks = [task(f"t{n}") for n in range(12)]
    path = write(tmp_path / "tasks.jsonl", tasks)
    summary = stage(output, context, None, path, held_out=0.5, function_form=True)
    held = {row["task_id"] for row in table(output, "held_out")}
    trained = {row["task_id"] for row in table(output, "tasks")}
    plain = {row["task_id"] for row in tasks} - held
    assert 0 < len(held) < 12
    assert trained == plain | {f"{name}/function" for name in plain}
    assert summary.counts["tasks"] == 2 * len(plain)


def test_mbpp_rows_of_the_train_split_are_tasks_and_others_are_refused(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    row = {
        "text": "Write a function to add one. ",
        "code": "import math\r\ndef helper(x):\r\n\treturn x\r\ndef add_one(x):\r\n\treturn x + 1",
        "task_id": 601,
        "test_setup_code": "",
        "test_list": ["assert str(add_one(1)) == '2'", "assert add_one(-1) == 0"],
        "challenge_test_list": [],
    }
    source = write(
        tmp_path / "mbpp.jsonl",
        [
            row,
            row | {"task_id": 600},
            row | {"task_id": 11},
            row | {"task_id": 700, "code": "def"},
            row | {"task_id": 701, "code": None},
            row | {"task_id": 702, "test_list": {"a": 1}},
            row | {"task_id": 703, "test_setup_code": "", "test_imports": [1]},
            row | {"task_id": 704, "code": "a = 1\0"},
        ],
    )
    summary = stage(output, context, None, source)
    assert (summary.counts["tasks"], summary.counts["bad_task"]) == (1, 7)
    (made,) = table(output, "tasks")
    assert (made["task_id"], made["entry_point"], made["licence"]) == (
        "mbpp/601",
        "add_one",
        "CC-BY-4.0",
    )
    prompt = made["messages"][0]["content"]
    assert "add one.\n" in prompt and row["test_list"][0] in prompt
    assert (
        row["test_list"][1] not in prompt
        and row["test_list"][1] in json.loads(made["tests"])["asserts"]
    )
    reasons = " ".join(entry["reason"] for entry in summary.details["skipped"])
    assert "MBPP 600 is not of the train split" in reasons and "no Python" in reasons
