"""Checks a table of tasks in the sandbox, so that only tasks that can judge are ever used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align import rows as schemas
from align.artifacts import Row, write_atomic, write_parquet
from align.context import progress_bar
from align.data.tasks import task_row
from align.errors import ArtifactError, InputError, RecipeError
from align.mbpp import as_task
from align.settings import SandboxSettings
from align.tables import read_rows
from sandbox import Sandbox, SandboxError, Task, TaskError, TaskReport, check_tasks, parse_task
from sandbox.limits import limits_row


@dataclass(frozen=True)
class Checked:
    """One row of a table of tasks: what checking it found, or why it is no task at all.

    Attributes:
        name: The task's id, or its place in the table where it has none.
        problem: Why it can't be used; empty where it can.
        report: What running it showed; None where it never ran.
        row: The row as it was read.
    """

    name: str
    problem: str
    report: TaskReport | None
    row: Row


def check_table(location: Path, settings: SandboxSettings, k: int) -> list[Checked]:
    """Checks each task of a table: its reference passes `k` times, empty code and a stub fail.

    Raises:
        InputError: The table can't be read or is empty.
        ArtifactError: The sandbox can't be started or stopped working.
    """
    found = list(_parsed(location))
    if not found:
        raise InputError(f"{location} holds no task")
    tasks = [item for _, item, _ in found if isinstance(item, Task)]
    reports: Iterator[TaskReport] = iter(())
    checked = []
    try:
        with (
            Sandbox(**dict(settings)) as box,
            progress_bar("check", len(tasks)) as bar,
        ):
            reports = check_tasks(box, tasks, k)
            for name, item, row in found:
                if isinstance(item, str):
                    checked.append(Checked(name, item, None, row))
                    continue
                report = next(reports)
                checked.append(Checked(name, report.problem, report, row))
                bar.advance()
    except SandboxError as error:
        raise ArtifactError(f"the sandbox stopped: {error}") from error
    return checked


def _parsed(location: Path) -> Iterator[tuple[str, Task | str, Row]]:
    """Yields name, task or what is wrong with it, and row."""
    places: dict[str, str] = {}
    for place, row in read_rows(location):
        try:
            row = as_task(row)
            task = parse_task(row)
        except TaskError as error:
            yield str(row.get("task_id") or place), f"{place}: {error}", row
            continue
        first = places.setdefault(task.task_id, place)
        if first != place:
            yield task.task_id, f"{place}: this id stands already at {first}", row
        else:
            yield task.task_id, task, row


def check_name(out: Path) -> None:
    """Refuses a file name that `write_sound` has no form for; raises RecipeError."""
    if out.suffix not in (".parquet", ".jsonl"):
        raise RecipeError(f"--out {out}: write X.parquet or X.jsonl")


def write_sound(out: Path, checked: list[Checked]) -> int:
    """Writes the sound tasks with the limits that follow from their references; returns how many.

    JSONL keeps every key of a row; parquet has the columns of a task.

    Raises:
        ArtifactError: No task is sound, so there is nothing to write, or the disk refuses it.
    """
    rows = [
        {**each.row, "limits": limits_row(each.report.limits)}
        for each in checked
        if each.report is not None and not each.problem
    ]
    if not rows:
        raise ArtifactError(f"no task is sound: {out} is not written")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".jsonl":
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_atomic(out, "".join(lines).encode())
        else:
            write_parquet(out, [task_row(row) for row in rows], schemas.TASK)
    except OSError as error:
        raise ArtifactError(f"{out} can't be written: {error}") from error
    return len(rows)


def summary(checked: list[Checked]) -> dict[str, Any]:
    """Returns the counts and times of a check, in the order in which they are shown."""
    ran = [each.report for each in checked if each.report is not None]
    sound = [report for report in ran if report.ok]
    return {
        "tasks": len(checked),
        "sound": len(sound),
        "bad": len(checked) - len(sound),
        "sound but weak": sum(report.strength == "weak" for report in sound),
        "sound with a limit above 4 s": sum(report.limits.cpu_s > 4 for report in sound),
        "slowest reference (ms)": round(max((report.cpu_ms for report in sound), default=0)),
    }
