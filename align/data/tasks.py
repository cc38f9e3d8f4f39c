"""Tasks: checked, decontaminated, split by problem."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from align import rows as schemas
from align.artifacts import Row, TableWriter, canonical_json
from align.data.decontaminate import BenchmarkIndex
from align.data.dropped import Dropped
from align.data.function_form import function_form
from align.data.sides import sides_of
from align.errors import InputError
from align.mbpp import as_task
from align.row_checks import text_fault
from align.settings import DataSettings
from align.tables import read_rows
from sandbox import TaskError, parse_task


def split_tasks(
    tables: Iterable[Path],
    settings: DataSettings,
    seed: int,
    writers: tuple[TableWriter, TableWriter],
    index: BenchmarkIndex,
    dropped: Dropped,
) -> list[Row]:
    """Writes tasks to train on, in both forms where asked, and tasks held out; returns the latter.

    Raises:
        InputError: Two tasks share an id.
    """
    places: dict[str, str] = {}
    kept_out: list[Row] = []
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
            if task.task_id in places:
                raise InputError(
                    f"{place}: task {task.task_id} stands already at {places[task.task_id]}; "
                    "ids must differ"
                )
            places[task.task_id] = place
            prompt = [m["content"] for m in built["messages"] or []] + [built["prompt"] or ""]
            hits = index.find(sides_of("\n\n".join(prompt), built["reference"] or ""))
            if hits:
                dropped.add_contaminated(str(table), place, hits)
                continue
            digest = hashlib.sha256(f"{seed}:{task.task_id}".encode()).digest()
            held = int.from_bytes(digest[:8], "big") < settings.held_out * 2**64
            writer = writers[1] if held else writers[0]
            built["split"] = "held_out" if held else "train"
            asked = [built]
            if held:
                kept_out.append(built)
            elif settings.function_form and (other := function_form(built)):
                asked.append(other)
            for each in asked:
                if each["task_id"] not in writer.done:
                    writer.add(each)
    return kept_out


def task_row(row: Mapping[str, Any]) -> Row:
    """Returns the row of the TASK table for a task as its author wrote it."""
    built: Row = {name: row.get(name) for name in schemas.TASK.names}
    if isinstance(built["messages"], str):
        built["messages"] = json.loads(built["messages"])
    for name in ("tests", "limits"):
        if built[name] is not None and not isinstance(built[name], str):
            built[name] = canonical_json(built[name])
    built["language"] = built["language"] or "python"
    return built


def _texts(row: Row) -> Iterator[str]:
    """Yields all texts of a task's row."""
    yield from (value for value in row.values() if isinstance(value, str))
    yield from (message["content"] for message in row["messages"] or ())
