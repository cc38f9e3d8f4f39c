"""The entry of the data stage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from align import rows as schemas
from align.artifacts import Row, TableWriter, canonical_json, sha256_text
from align.data.chat_rows import chat_fault, train_row
from align.data.decontaminate import BenchmarkIndex
from align.errors import InputError
from align.settings import DataSettings
from align.skips import Skips
from align.stage import Context, Output, Summary
from align.tables import read_rows
from sandbox import TaskError, parse_task


def run(
    settings: DataSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Reads, checks, decontaminates and splits; writes `rows`, `tasks` and `held_out`.

    Inputs are named `rows.0`, `rows.1`, ... and `tasks.0`, ... A row or task that can't be used is
    skipped, counted and logged with its place.

    Raises:
        InputError: A file can't be read, two tasks share an id, or nothing is left.
    """
    index = BenchmarkIndex(settings.ngram)
    for name in settings.decontaminate:
        index.add_benchmark(name)
    skips = Skips(context)
    with out.table("rows", schemas.TRAIN_ROW, "row_id") as writer:
        _chat_rows(_named(inputs, "rows"), writer, index, skips)
        n_rows, rows_sha = writer.rows, writer
    with (
        out.table("tasks", schemas.TASK, "task_id") as train,
        out.table("held_out", schemas.TASK, "task_id") as held,
    ):
        _tasks(
            _named(inputs, "tasks"), settings.held_out, context.seed, (train, held), index, skips
        )
    if settings.rows and not n_rows:
        raise InputError(f"no usable row in {', '.join(settings.rows)}: {skips.first()}")
    if settings.tasks and not train.rows:
        raise InputError(f"no usable task in {', '.join(settings.tasks)}: {skips.first()}")
    hashes = [rows_sha.content_sha(), train.content_sha(), held.content_sha()]
    return Summary(
        content_sha=sha256_text(canonical_json(hashes)),
        counts={"rows": n_rows, "tasks": train.rows, "held_out": held.rows, **skips.counts},
        details={"skipped": skips.listed, "decontaminated_against": list(settings.decontaminate)},
    )


def _named(inputs: Mapping[str, Path], kind: str) -> list[Path]:
    names = [name for name in inputs if name.startswith(f"{kind}.")]
    return [inputs[name] for name in sorted(names, key=lambda name: int(name.split(".")[1]))]


def _chat_rows(
    tables: Iterable[Path], writer: TableWriter, index: BenchmarkIndex, skips: Skips
) -> None:
    seen: set[str] = set()
    for table in tables:
        for place, row in read_rows(table):
            messages = row.get("messages")
            fault = chat_fault(messages)
            if fault or messages is None:
                skips.add("bad_row", place, fault or "messages is missing")
                continue
            hit = index.find(message["content"] for message in messages)
            if hit:
                skips.add("contaminated", place, f"{hit.problem}: {hit.reason}")
                continue
            source = str(row.get("source") or table.name)
            file, _, line = place.rpartition(":")
            origin = {"source": source, "file": Path(file or place).name, "line": line}
            built = train_row(messages, origin, str(row.get("licence") or "unknown"))
            if built["row_id"] in seen:
                skips.add("duplicate", place, "the same messages stand earlier")
                continue
            seen.add(built["row_id"])
            if built["row_id"] not in writer.done:
                writer.add(built)


def _tasks(
    tables: Iterable[Path],
    held_out: float,
    seed: int,
    writers: tuple[TableWriter, TableWriter],
    index: BenchmarkIndex,
    skips: Skips,
) -> None:
    places: dict[str, str] = {}
    for table in tables:
        for place, row in read_rows(table):
            try:
                task = parse_task(row)
            except TaskError as error:
                skips.add("bad_task", place, str(error))
                continue
            if task.task_id in places:
                raise InputError(
                    f"{place}: task {task.task_id} stands already at {places[task.task_id]}; "
                    "ids must differ"
                )
            places[task.task_id] = place
            built = task_row(row)
            texts = [m["content"] for m in built["messages"] or []]
            texts += [built[name] for name in ("prompt", "reference") if built[name]]
            hit = index.find(texts)
            if hit:
                skips.add("contaminated", place, f"{hit.problem}: {hit.reason}")
                continue
            digest = hashlib.sha256(f"{seed}:{task.task_id}".encode()).digest()
            held = int.from_bytes(digest[:8], "big") < held_out * 2**64
            writer = writers[1] if held else writers[0]
            built["split"] = "held_out" if held else "train"
            if task.task_id not in writer.done:
                writer.add(built)


def task_row(row: Mapping[str, Any]) -> Row:
    """Returns the row of the TASK table for a task as its author wrote it."""
    built: Row = {name: row.get(name) for name in schemas.TASK.names}
    for name in ("tests", "limits"):
        if built[name] is not None and not isinstance(built[name], str):
            built[name] = canonical_json(built[name])
    built["language"] = built["language"] or "python"
    return built
