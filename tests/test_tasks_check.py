"""`align tasks check` in a real sandbox: what is sound, what is bad and why, what is written."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from align.checking import Checked, check_table, summary, write_sound
from align.errors import ArtifactError, InputError
from align.settings import SandboxSettings
from align.tables import read_rows
from sandbox import parse_task

BOX = SandboxSettings(engine="namespaces", isolation="ns", workers=2)
PLUS = "def f(x):\n    return x + 1\n"


def task(name: str, reference: str | None, tests: Any = None, **more: Any) -> dict[str, Any]:
    made = tests or {"kind": "calls", "cases": [{"args": [n], "expected": n + 1} for n in range(3)]}
    return {
        "task_id": name,
        "messages": [{"role": "user", "content": "Add one."}],
        "entry_point": "f",
        "tests": made,
        "reference": reference,
        **more,
    }


def asserts(*lines: str) -> dict[str, Any]:
    return {"kind": "asserts", "asserts": list(lines)}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def check(folder: Path, *rows: dict[str, Any], k: int = 2) -> list[Checked]:
    return check_table(write(folder / "tasks.jsonl", *rows), BOX, k)


def align(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "align.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_bad_tasks_are_named_with_their_reasons(tmp_path: Path) -> None:
    silent = {"kind": "stdio", "cases": [{"stdin": "", "stdout": ""}]}
    checked = check(
        tmp_path,
        task("good", PLUS),
        task("wrong", "def f(x):\n    return x\n"),
        task("bare", None),
        task("untested", PLUS) | {"tests": None},
        task("malformed", PLUS, {"kind": "calls", "cases": []}),
        task("good", PLUS),
        task("silent", "import sys\n", silent),
    )
    problems = {f"{index} {each.name}": each.problem for index, each in enumerate(checked)}
    assert problems["0 good"] == ""
    assert "the reference fails: wrong_answer" in problems["1 wrong"]
    assert problems["2 bare"] == "no reference: nothing to check by"
    assert "no tests" in problems["3 untested"]
    assert "tasks.jsonl:5: task malformed: tests.cases" in problems["4 malformed"]
    assert "stands already at" in problems["5 good"]
    assert "accept a program that always raises" in problems["6 silent"]
    counts = summary(checked)
    assert (counts["tasks"], counts["sound"], counts["bad"]) == (7, 1, 6)


def test_a_reference_that_passes_some_of_its_runs_is_flaky(tmp_path: Path) -> None:
    moody = "import os\ndef f(x):\n    return x + 1 if os.urandom(1)[0] < 240 else 0\n"
    # Seven of ten runs pass, so that all or none of forty do is next to impossible.
    cases = [{"args": [n], "expected": n + 1} for n in range(1, 7)]
    (each,) = check(tmp_path, task("moody", moody, {"kind": "calls", "cases": cases}), k=40)
    assert "flaky: " in each.problem
    assert "of 40 runs of the reference passed" in each.problem


def test_limits_follow_from_the_reference_and_weak_tasks_are_counted(tmp_path: Path) -> None:
    slow = (
        "import time\ndef f(x):\n"
        "    start = time.process_time()\n"
        "    while time.process_time() - start < 1.2: pass\n"
        "    return x + 1\n"
    )
    match = "import re\ndef f(text):\n    return re.match('a', text)\n"
    checked = check(
        tmp_path,
        task("quick", PLUS, limits={"memory_mb": 256}),
        task("slow", slow, asserts("assert f(1) == 2"), limits={"cpu_s": 0.5}),
        task("weak", match, asserts("assert type(f('a')).__name__ == 'Match'")),
        k=1,
    )
    quick, slower, weak = (each.report for each in checked)
    assert quick and slower and weak
    assert [report.problem for report in (quick, slower, weak)] == ["", "", ""]
    assert (quick.limits.cpu_s, quick.limits.memory_mb) == (4.0, 256)
    assert slower.cpu_ms >= 1200
    assert 4.8 <= slower.limits.cpu_s == round(4 * slower.cpu_ms / 1000, 1)
    assert [report.strength for report in (quick, slower, weak)] == ["strong", "strong", "weak"]
    assert summary(checked)["sound but weak"] == 1


def test_the_verb_writes_the_sound_tasks_only_and_exits_with_1(tmp_path: Path) -> None:
    tasks = write(tmp_path / "t.jsonl", task("a", PLUS, mine=1), task("b", "def f(x): return x"))
    options = ("--k", "2", "--engine", "namespaces", "--isolation", "ns")
    for name in ("new/sound.jsonl", "sound.parquet"):
        out = tmp_path / name
        done = align("tasks", "check", str(tasks), *options, "--out", str(out))
        assert done.returncode == 1, done.stderr
        assert "1 tasks, 1 left out" in done.stderr
        assert "the reference fails" in done.stderr
        ((_, row),) = read_rows(out)
        assert row["task_id"] == "a"
        assert parse_task(row).limits.cpu_s == 4.0
    assert next(read_rows(tmp_path / "new/sound.jsonl"))[1]["mine"] == 1
    done = align("tasks", "check", str(tmp_path / "sound.parquet"), *options, "--all")
    assert done.returncode == 0, done.stderr
    assert "strong" in done.stderr


def test_a_wrong_file_name_is_refused_before_anything_runs(tmp_path: Path) -> None:
    tasks = write(tmp_path / "t.jsonl", task("a", PLUS))
    done = align("tasks", "check", str(tasks), "--out", str(tmp_path / "o.csv"))
    assert done.returncode == 2
    assert "write X.parquet or X.jsonl" in done.stderr


def test_nothing_is_written_where_nothing_is_sound(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no task is sound"):
        write_sound(tmp_path / "o.jsonl", check(tmp_path, task("bare", None)))
    assert not (tmp_path / "o.jsonl").exists()


def test_an_empty_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no task"):
        check(tmp_path)


def test_the_sandbox_verbs_list_and_prune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = align("sandbox", "list", "--engine", "namespaces")
    assert done.returncode == 0, done.stderr
    assert "nothing is built yet" in done.stderr
    (tmp_path / "code-align" / "rootfs-000000000000").mkdir()
    done = align("sandbox", "list", "--engine", "namespaces")
    assert "000000000000" in done.stderr
    assert "old" in done.stderr
    done = align("sandbox", "prune", "--engine", "namespaces")
    assert done.returncode == 0, done.stderr
    assert "removed 1 " in done.stderr
    assert not (tmp_path / "code-align" / "rootfs-000000000000").exists()
    done = align("sandbox", "build", "--image", "perl", "--engine", "namespaces")
    assert done.returncode == 1
    assert "'perl' is not one of python, python-data" in done.stderr
