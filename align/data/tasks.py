"""Tasks: checked, decontaminated, split by problem."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align import rows as schemas
from align.artifacts import Row, TableWriter
from align.data.decontaminate import BenchmarkIndex, Hit
from align.data.dropped import Dropped
from align.data.function_form import SUFFIX, function_form
from align.data.sides import sides_of, words_of
from align.errors import InputError
from align.mbpp import as_task
from align.questions import without_shown_test
from align.row_checks import text_fault
from align.settings import DataSettings
from align.tables import read_rows
from sandbox import TaskError, parse_task

HELD_OUT = "held_out"
"""What the column `split` of a task says that is kept for evaluation."""


@dataclass(frozen=True)
class _Task:
    """A task that can be used: its row, where it stands, and whether it is held out."""

    row: Row
    source: str
    place: str
    held: bool

    @property
    def question(self) -> tuple[str, ...]:
        """The words that it asks in."""
        return tuple(words_of(without_shown_test(_prompt(self.row))))


def split_tasks(
    tables: Iterable[Path],
    settings: DataSettings,
    writers: tuple[TableWriter, TableWriter],
    index: BenchmarkIndex,
    dropped: Dropped,
) -> list[Row]:
    """Writes tasks to train on, in both forms where asked, and tasks held out; returns the latter.

    The split is by the problem and always the same, whatever the run's seed: what one run is tuned
    by, another one must not train on. A task whose question is held out in another task goes out.

    Raises:
        InputError: Two tasks share an id.
    """
    tasks = _usable(tables, settings.held_out, index, dropped)
    kept_out = [task for task in tasks if task.held]
    asked = {task.question: task for task in kept_out}
    for task in tasks:
        writer = writers[1] if task.held else writers[0]
        rows = [task.row]
        if not task.held:
            if (twin := asked.get(task.question)) is not None:
                reason = f"{twin.row['task_id']}, which is held out, asks the same"
                dropped.add("asked_in_held_out", task.source, task.place, reason)
                continue
            if settings.function_form and (other := function_form(task.row)):
                if hits := _hits(other, index):  # by the test that it shows
                    dropped.add_contaminated(task.source, f"{task.place}, as a function", hits)
                else:
                    rows.append(other)
        for row in rows:
            if row["task_id"] not in writer.done:
                writer.add(row)
    return [task.row for task in kept_out]


def _usable(
    tables: Iterable[Path], held_out: float, index: BenchmarkIndex, dropped: Dropped
) -> list[_Task]:
    places: dict[str, str] = {}
    found: list[_Task] = []
    for table in tables:

        def bad(place: str, reason: str, source: str = str(table)) -> None:
            dropped.add("bad_task", source, place, reason)

        for place, row in read_rows(table, bad):
            try:
                row = as_task(row)
                task = parse_task(row)
            except TaskError as error:
                bad(place, str(error))
                continue
            built = task_row(row)
            if fault := next(filter(None, map(text_fault, _texts(built))), None):
                bad(place, f"task {task.task_id!a}: a text of it {fault}")
                continue
            if built["split"] not in (None, "train", HELD_OUT):
                bad(place, f"task {task.task_id} is of the split {built['split']}, not to train on")
                continue
            if task.task_id in places:
                raise InputError(
                    f"{place}: task {task.task_id} stands already at {places[task.task_id]}; "
                    "ids must differ"
                )
            places[task.task_id] = place
            if hits := _hits(built, index):
                dropped.add_contaminated(str(table), place, hits)
                continue
            held = built["split"] == HELD_OUT or _drawn(task.task_id, held_out)
            built["split"] = HELD_OUT if held else "train"
            found.append(_Task(built, str(table), place, held))
    return found


def _drawn(task_id: str, share: float) -> bool:
    """Says whether a task is among the share that is held out; both its forms are, or none."""
    digest = hashlib.sha256(f"0:{task_id.removesuffix(SUFFIX)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _prompt(row: Row) -> str:
    return "\n\n".join([m["content"] for m in row["messages"] or []] + [row["prompt"] or ""])


def _hits(row: Row, index: BenchmarkIndex) -> Sequence[Hit]:
    # A task without a reference may still tell what its function is called.
    head = f"def {row['entry_point']}():" if row["entry_point"] else ""
    return index.find(sides_of(_prompt(row), row["reference"] or head))


def task_row(row: Mapping[str, Any]) -> Row:
    """Returns the row of the TASK table for a task as its author wrote it."""
    built: Row = {name: row.get(name) for name in schemas.TASK.names}
    if isinstance(built["messages"], str):
        built["messages"] = json.loads(built["messages"])
    for name in ("tests", "limits"):
        if built[name] is not None and not isinstance(built[name], str):
            # In its order: that of a dict's keys can be what a test asks for.
            built[name] = json.dumps(built[name], ensure_ascii=False)
    built["language"] = built["language"] or "python"
    return built


def _texts(row: Row) -> Iterator[str]:
    """Yields all texts of a task's row."""
    yield from (value for value in row.values() if isinstance(value, str))
    yield from (message["content"] for message in row["messages"] or ())
