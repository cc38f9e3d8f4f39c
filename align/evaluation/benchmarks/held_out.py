"""The run's own held-out tasks as a benchmark: each as its author wrote it, or in a form."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from align.artifacts import Row, table_hash
from align.completions import clean_text
from align.errors import InputError
from align.evaluation.benchmarks.base import Benchmark, Problem, fixed_slice
from align.evaluation.forms import (
    DOCSTRING_STOPS,
    HEAD_STOPS,
    Question,
    function_problem,
)
from align.questions import head_of
from align.sampling.extract import (
    CONTINUATION_EXTRACTOR,
    EXTRACTOR,
    extract_code,
    extract_continuation,
)
from align.sampling.forms import Form
from align.sampling.prompts import task_prompt
from align.skips import Skips
from align.tables import read_rows

NAME = "held_out"
PROMPT_FORM = "task/1"


def load(table: Path, count: int | None, skips: Skips, form: Form) -> Benchmark:
    """Returns the held-out tasks of a table, or a fixed slice of them.

    Our own form puts them as they were written, as does `raw` one that is raw text. Tasks without
    tests can't be scored; they are skipped and counted, as are those that a form can't hold.

    Raises:
        InputError: The table holds no task that is held out and has tests, or two with one id.
    """
    rows: dict[str, tuple[str, Row]] = {}
    for place, row in read_rows(table):
        task_id = row.get("task_id")
        if row.get("split") != "held_out" or not isinstance(task_id, str):
            continue
        if not row.get("tests"):
            skips.add("no_tests", place, f"task {task_id} has no tests, so it can't be scored")
        elif not _as_written(row, form) and head_of(row) is None:
            skips.add("not_in_form", place, f"task {task_id} can't be asked by {form.key}")
        elif task_id in rows:
            raise InputError(f"{place}: task {task_id} stands already at {rows[task_id][0]}")
        else:
            rows[task_id] = (place, {**row, "task_id": f"{NAME}:{task_id}"})
    if not rows:
        raise InputError(
            f"{table} holds no task with `split` held_out and tests that can be asked so: raise "
            "data.held_out, or leave `held_out` out of eval.benchmarks"
            + (f" ({skips.first()})" if skips.counts else "")
        )
    ids = sorted(rows)
    chosen = [rows[task_id] for task_id in fixed_slice(ids, count, ids)]
    return Benchmark(
        NAME,
        tuple(_problem(place, row, form) for place, row in chosen),
        PROMPT_FORM if form.key == "own" else form.name,
        table_hash(row for _, row in rows.values()),
    )


def _as_written(row: Row, form: Form) -> bool:
    return form.key == "own" or (form.key == "raw" and not row.get("messages"))


def _problem(place: str, row: Row, form: Form) -> Problem:
    if not _as_written(row, form) and (head := head_of(row)) is not None:
        stop = DOCSTRING_STOPS if head.startswith('"""') else HEAD_STOPS
        return function_problem(Question(row, place, head, "", stop), form)
    render = partial(task_prompt, place=place, task=row)
    if row.get("messages"):
        find = partial(extract_code, entry_point=row.get("entry_point"))
        return Problem(row, render, find, EXTRACTOR)
    head = clean_text(row.get("prompt") or "")
    return Problem(row, render, partial(extract_continuation, head), CONTINUATION_EXTRACTOR)
