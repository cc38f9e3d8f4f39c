"""The command's exit codes and messages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import align.doctor
from align import cli
from align.artifacts import Identity, TableWriter
from align.doctor import Finding
from align.rows import TASK

IN_OUT = ("--model", "m", "--tasks", "t", "--out", "o")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "align.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_mistyped_key_exits_with_2_and_names_the_right_one() -> None:
    done = run("run", "recipes/demo.yaml", "--set", "sft.coarse.lerning_rate=1")
    assert done.returncode == 2
    assert "sft.coarse.lerning_rate; did you mean learning_rate?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["recipes", "validate", "demo"], 0, "ok"),
        (["recipes", "validate", "dmeo"], 2, "did you mean demo"),
        (["nothing"], 2, "No such command"),
        (["verify", "--tasks", "none.jsonl", "--samples", "s", "--out", "v"], 1, "none.jsonl"),
        (["eval", "--model", "m", "--out", "e", "--bench", "humaneval=x"], 2, "NAME=NUMBER"),
        (["sample", *IN_OUT, "--set", "serving.eagre=1"], 2, "eagre; did you mean eager"),
        (["data", "--rows", "t"], 2, "needs --out"),
        (["data", "--rows", "t=much", "--out", "o"], 2, "write TABLE or TABLE=WEIGHT"),
        (["doctor", "--engine", "chroot"], 2, "choose auto, docker or namespaces"),
    ],
)
def test_errors_are_one_message_and_a_code(arguments: list[str], code: int, words: str) -> None:
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stages_folder_is_no_table_but_names_its_tables(tmp_path: Path) -> None:
    task = {"task_id": "t", "language": "python", "messages": [{"role": "user", "content": "?"}]}
    tests = {"kind": "stdio", "cases": [{"stdin": "", "stdout": ""}]}
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(json.dumps(task | {"entry_point": None, "tests": tests, "reference": ""}))
    done = run("data", "--tasks", str(tasks), "--out", str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    done = run("verify", "--tasks", str(tmp_path / "data"), "--samples", str(tasks), "--out", "o")
    assert done.returncode == 1
    assert "is a stage's folder; name a table in it: " in done.stderr
    assert str(tmp_path / "data" / "tasks") in done.stderr


def test_data_prints_what_became_of_each_source(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a?", "completion": "b."}\n{broken\n')
    (tmp_path / "b.json").write_text('[{"instruction": "c?", "output": "d."}]')
    sources = ["--rows", str(tmp_path / "a.jsonl"), "--rows", f"{tmp_path / 'b.json'}=3"]
    done = run("data", *sources, "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    lines = [line.split("│")[2:-1] for line in done.stderr.splitlines() if "/completion" in line]
    assert [[cell.strip() for cell in cells] for cells in lines] == [
        ["prompt/completion", "2", "bad row 1", "1", "1", "1"]
    ]
    (other,) = [line for line in done.stderr.splitlines() if "alpaca" in line]
    assert [cell.strip() for cell in other.split("│")[4:-1]] == ["none", "1", "3", "3"]


def test_a_table_that_is_not_done_is_refused(tmp_path: Path) -> None:
    row = {name: None for name in TASK.names} | {"task_id": "t"}
    with (
        pytest.raises(KeyboardInterrupt),
        TableWriter(
            tmp_path / "tasks", TASK, "task_id", Identity("x", "c"), shard_rows=1
        ) as writer,
    ):
        writer.add(row)
        writer.add(row | {"task_id": "u"})
        raise KeyboardInterrupt
    done = run("data", "--tasks", str(tmp_path / "tasks"), "--out", str(tmp_path / "out"))
    assert done.returncode == 1 and "tasks is not done" in " ".join(done.stderr.split())


def test_a_benchmark_that_changed_is_another_input_of_a_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGN_DATA", str(tmp_path))
    problems = tmp_path / "mbpp" / "mbpp_validation.jsonl"
    problems.parent.mkdir()
    problems.write_text('{"task_id": 511, "text": "Do."}\n', encoding="utf-8")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "Add.", "output": "```python\\n1 + 1\\n```"}\n')
    given = ("data", "--rows", str(rows), "--out", str(tmp_path / "out"))
    given = (*given, "--set", "decontaminate=[mbpp_validation]")
    assert run(*given).returncode == 0
    assert "is done already" in run(*given).stderr
    problems.write_text('{"task_id": 511, "text": "Do it."}\n', encoding="utf-8")
    assert "results of other settings or inputs" in run(*given).stderr


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (["select", "--samples", "{s}", "--verdicts", "{s}"], "this is no table of verdicts"),
        (["pair", "--samples", "{s}", "--verdicts", "{v}", "--tasks", "{v}"], "no table of tasks"),
        (["eval", "--model", "m", "--bench", "humaneval", "--held-out", "{s}"], "not be measured"),
        (["recipes", "cp", "demo", "/proc/demo.yaml"], "/proc/demo.yaml"),
    ],
)
def test_tables_and_places_that_can_t_be_meant_are_errors_in_words(
    tmp_path: Path, verb: list[str], words: str
) -> None:
    sample, verdict = tmp_path / "s.jsonl", tmp_path / "v.jsonl"
    sample.write_text('{"sample_id": "a", "text": "x"}\n')
    verdict.write_text('{"sample_id": "a", "outcome": "accepted", "task_id": null}\n')
    given = [each.format(s=sample, v=verdict) for each in verb]
    out = [] if verb[0] == "recipes" else ["--out", str(tmp_path / "o")]
    done = run(*given, *out)
    assert done.returncode in (1, 2) and words in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr


def test_a_doctor_who_finds_a_fault_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("a wall", ok=False, detail="it fell", mend="build it again")
    monkeypatch.setattr(align.doctor, "examine", lambda engine, isolation: [finding])
    monkeypatch.setattr(sys, "argv", ["align", "doctor"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
