"""The entry of the data stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from align import rows as schemas
from align.artifacts import canonical_json, sha256_text
from align.data.clean import RowCleaner, source_details
from align.data.decontaminate import BenchmarkIndex
from align.data.dropped import Dropped
from align.data.tasks import split_tasks
from align.errors import InputError
from align.settings import DataSettings
from align.stage import Context, Output, Summary


def run(
    settings: DataSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Reads, checks, decontaminates, deduplicates, mixes and splits.

    Inputs are named `rows.0`, `rows.1`, ..., `tasks.0`, ..., and `benchmark.NAME` for benchmarks
    that are tables. Writes `rows`, `tasks`, `held_out`;
    `dropped`, one line for every row or task that can't be used; and `contamination`, one line for
    every overlap with a benchmark. Held-out tasks are a benchmark for the rows too.

    Raises:
        InputError: A file can't be read, two tasks share an id, or nothing is left.
    """
    index = BenchmarkIndex(settings.ngram, settings.lcs_words, settings.lcs_share)
    for name in settings.decontaminate:
        index.add_benchmark(name, inputs.get(f"benchmark.{name}"))
    with (
        out.table("dropped", schemas.DROPPED, "drop_id") as drops,
        out.table("contamination", schemas.CONTAMINATION, "hit_id") as overlaps,
    ):
        dropped = Dropped(drops, overlaps)
        with (
            out.table("tasks", schemas.TASK, "task_id") as train,
            out.table("held_out", schemas.TASK, "task_id") as held,
        ):
            tables = _named(inputs, "tasks")
            kept_out = split_tasks(tables, settings, (train, held), index, dropped)
        for task in kept_out:
            index.add_problem("held_out", task["task_id"], task)
        with (
            RowCleaner(settings, index, dropped, out.path / "work", context) as cleaner,
            out.table("rows", schemas.DATA_ROW, "row_id") as rows,
        ):
            for source, table in zip(settings.rows, _named(inputs, "rows"), strict=True):
                cleaner.take(source, table)
            cleaner.write(rows)
    if settings.rows and not rows.rows:
        names = ", ".join(source.path for source in settings.rows)
        raise InputError(f"no usable row in {names}: {dropped.first()}")
    if tables and not train.rows:
        raise InputError(f"no usable task in {', '.join(map(str, tables))}: {dropped.first()}")
    hashes = [table.content_sha() for table in (rows, train, held)]
    return Summary(
        content_sha=sha256_text(canonical_json(hashes)),
        counts={
            "rows": rows.rows,
            "tasks": train.rows,
            "held_out": held.rows,
            **dropped.counts,
        },
        details={
            "sources": source_details(cleaner.sources, dropped.by_source),
            "languages": dict(cleaner.languages.most_common()),
            "skipped": dropped.listed,
            "decontaminated_against": list(settings.decontaminate),
            "contaminated_by": dict(dropped.problems.most_common()),
        },
    )


def _named(inputs: Mapping[str, Path], kind: str) -> list[Path]:
    names = [name for name in inputs if name.startswith(f"{kind}.")]
    return [inputs[name] for name in sorted(names, key=lambda name: int(name.split(".")[1]))]
