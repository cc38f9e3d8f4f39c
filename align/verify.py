"""The verify stage: runs every sample against its task's tests in the sandbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from align import rows as schemas
from align.artifacts import Row, short_id
from align.errors import ArtifactError, InputError
from align.sampling.extract import extract_code, extract_continuation
from align.settings import VerifySettings
from align.skips import Skips
from align.stage import Context, Output, Summary
from align.tables import read_rows
from align.verdicts import verdict_id, verdict_row
from sandbox import Outcome, SandboxError, Task, TaskError, parse_task


def run(
    settings: VerifySettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Executes the samples of `samples` against the tests of `tasks`; writes `verdicts`.

    A sample of an unknown task, or of a task without tests, is skipped, counted and logged. With
    `repeat` above one, each sample runs that often, and runs that disagree make it `flaky`.

    Raises:
        InputError: A table can't be read, is empty, or two samples share an id.
        ArtifactError: The sandbox stopped working; verdicts so far are kept.
    """
    tasks = load_tasks(inputs["tasks"])
    skips = Skips(context)
    samples = list(check_samples(inputs["samples"], tasks, skips))
    if not samples:
        raise InputError(f"{inputs['samples']} holds no sample to run: {skips.first()}")
    with out.table("verdicts", schemas.VERDICT, "verdict_id") as writer:
        todo = [row for row in samples if verdict_id(row["sample_id"]) not in writer.done]
        with context.progress("verify", len(samples)) as bar:
            bar.advance(len(samples) - len(todo))
            if todo:
                _execute(settings, tasks, todo, writer.add, context, bar.advance)
    rows = [row for _, row in read_rows(out.path / "verdicts")]
    outcomes = Counter(row["outcome"] for row in rows)
    weak = sum(row["strength"] == "weak" for row in rows)
    return Summary(
        content_sha=writer.content_sha(),
        counts={"samples": len(rows), **outcomes, "weak": weak, **skips.counts},
        details={"outcomes": dict(outcomes), "skipped": skips.listed},
    )


def load_tasks(location: Path) -> dict[str, Task]:
    """Returns the tasks of a table by id.

    Raises:
        InputError: A task is malformed, or two share an id.
    """
    tasks: dict[str, Task] = {}
    for place, row in read_rows(location):
        try:
            task = parse_task(row)
        except TaskError as error:
            raise InputError(f"{place}: {error}") from error
        if task.task_id in tasks:
            raise InputError(f"{place}: a second task with the id {task.task_id}")
        tasks[task.task_id] = task
    return tasks


def check_samples(
    location: Path, tasks: Mapping[str, Task], skips: Skips
) -> Iterator[dict[str, Any]]:
    """Yields the samples that can be run, with `sample_id` and `code` filled in where missing.

    A samples file needs only `task_id`, `sample_index` and `code` or `text`.
    """
    places: dict[str, str] = {}
    for place, row in read_rows(location):
        task_id, index = row.get("task_id"), row.get("sample_index")
        if not isinstance(task_id, str) or not isinstance(index, int):
            skips.add("bad_sample", place, "a sample needs task_id (text) and sample_index (int)")
            continue
        if "code" not in row and not isinstance(row.get("text"), str):
            skips.add("bad_sample", place, "a sample needs code or text")
            continue
        if task_id not in tasks:
            skips.add("unknown_task", place, f"no task {task_id} in the tasks table")
            continue
        task = tasks[task_id]
        if task.tests is None:
            skips.add("no_tests", place, f"task {task_id} has no tests, so it is never executed")
            continue
        sample_id = row.get("sample_id") or short_id("s", task_id, index)
        if sample_id in places:
            raise InputError(
                f"{place}: sample {sample_id} stands already at {places[sample_id]}; give every "
                "sample its own sample_id (or sample_index)"
            )
        places[sample_id] = place
        code = row["code"] if "code" in row else _code_in(row, task)
        yield {"sample_id": sample_id, "task_id": task_id, "sample_index": index, "code": code}


def _code_in(row: Row, task: Task) -> str | None:
    """Returns the code of an answer: to a chat, or to a raw prompt that it goes on from."""
    if task.messages is None and task.prompt:
        return extract_continuation(task.prompt, row["text"])
    return extract_code(row["text"], task.entry_point, row.get("prefill") or "")


def _execute(
    settings: VerifySettings,
    tasks: Mapping[str, Task],
    samples: list[dict[str, Any]],
    emit: Callable[[Row], None],
    context: Context,
    advance: Callable[[], None],
) -> None:
    # Equal programs of one task are run once: at low temperatures that is most of them.
    equal: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for row in samples:
        equal.setdefault((row["task_id"], row["code"]), []).append(row)
    work = ((rows, tasks[task_id], code) for (task_id, code), rows in equal.items())
    faults: list[Row] = []
    try:
        with context.sandbox() as box:
            for rows, verdict in box.run_many(work, repeat=settings.repeat):
                for row in rows:
                    made = verdict_row(
                        row["sample_id"], row["task_id"], row["sample_index"], verdict
                    )
                    if verdict.outcome == Outcome.INFRA_ERROR:
                        faults.append(made)
                    else:
                        emit(made)
                    advance()
    except SandboxError as error:
        # No verdict for what it failed: the next command is to run that again.
        raise ArtifactError(f"the sandbox stopped: {error}") from error
    for made in faults:
        emit(made)
