"""The judge stage: scores samples by a rubric; it orders them only inside an outcome class."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from align import rows as schemas
from align.artifacts import Row, sha256_text
from align.checkpoint import weights_sha
from align.completions import look_up
from align.errors import InputError, ServingError
from align.settings import JudgeSettings
from align.skips import Skips
from align.stage import Context, Output, Summary
from align.tables import read_rows, read_samples
from judges import (
    AnswerCache,
    Candidate,
    Judge,
    JudgeError,
    Judgement,
    Rubric,
    Status,
    load_rubric,
    within_problem_auroc,
)

_ATTEMPTS = 3


def run(
    settings: JudgeSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Scores samples of `samples` (with `tasks`, and `verdicts` where there are) by the rubric.

    The judge is the model of the input `model`, served by the run, or what answers at
    `settings.endpoint`. Samples are taken task by task, so that within `max_samples` as many tasks
    as possible have two samples to order. Writes `judgements`.

    Raises:
        InputError: A table is empty or can't be read, or no sample has code.
        ServingError: The judge's server can't be started or kept alive.
    """
    tasks = {row["task_id"]: row for _, row in read_rows(inputs["tasks"])}
    outcomes: dict[str, str] = {}
    if "verdicts" in inputs:
        outcomes = {row["sample_id"]: row["outcome"] for _, row in read_rows(inputs["verdicts"])}
    skips = Skips(context)
    passed_over = frozenset() if settings.executed else frozenset(outcomes)
    samples = _choose(inputs["samples"], tasks, outcomes, passed_over, settings.max_samples, skips)
    if not samples and settings.executed:
        raise InputError(f"{inputs['samples']} holds no sample to judge: {skips.first()}")
    rubric = _rubric(settings.rubric)
    with out.table("judgements", schemas.JUDGEMENT, "sample_id") as writer:
        todo = [row for row in samples if row["sample_id"] not in writer.done]
        with context.progress("judge", len(samples)) as bar:
            bar.advance(len(samples) - len(todo))

            def emit(row: Row) -> None:
                writer.add(row)
                bar.advance()

            with closing(AnswerCache(out.path / "answers.jsonl")) as answers:
                _judge_all(todo, tasks, settings, inputs, context, rubric, answers, emit)
    rows = [row for _, row in read_rows(out.path / "judgements")]
    return _summary(rows, outcomes, writer.content_sha(), skips)


def rubric_sha(name: str) -> str:
    """Returns the hash of what a rubric says.

    Raises:
        InputError: There is no such rubric, or it can't be read.
    """
    return sha256_text(_rubric(name).model_dump_json())


def _rubric(name: str) -> Rubric:
    try:
        return load_rubric(name)
    except JudgeError as error:
        raise InputError(str(error)) from error


def _judge_all(
    samples: list[Row],
    tasks: Mapping[str, Row],
    settings: JudgeSettings,
    inputs: Mapping[str, Path],
    context: Context,
    rubric: Rubric,
    answers: AnswerCache,
    emit: Callable[[Row], None],
) -> None:
    """Judges every sample; what the server failed on is asked again, of a new one if it died."""
    by_id = {row["sample_id"]: row for row in samples}
    name = _judge_id(settings, inputs)
    for _ in range(_ATTEMPTS):
        if not by_id:
            return
        judge = _open_judge(settings, inputs, context, rubric, answers)
        candidates = (
            Candidate(row["sample_id"], task_text(tasks[row["task_id"]]), row["code"])
            for row in list(by_id.values())
        )
        try:
            for judgement in judge.score_many(candidates):
                if judgement.status is Status.INFRA_ERROR:
                    context.log("infra_error", detail=judgement.detail)
                else:
                    emit(_row(judgement, by_id.pop(judgement.candidate_ids[0]), name))
        except JudgeError as error:
            raise ServingError(f"judging stopped: {error}") from error
    if by_id:
        raise ServingError(
            f"{len(by_id)} of {len(samples)} samples could not be judged: the judge's server "
            f"failed {_ATTEMPTS} times (see log.jsonl); the others are kept: run the same command "
            "again"
        )


def _judge_id(settings: JudgeSettings, inputs: Mapping[str, Path]) -> str:
    """Names the judge by what it is, not by where it lies or under which name it is served."""
    if settings.endpoint:
        return str(settings.model)
    return f"{inputs['model'].name}@{weights_sha(inputs['model'])[:12]}"


def _open_judge(
    settings: JudgeSettings,
    inputs: Mapping[str, Path],
    context: Context,
    rubric: Rubric,
    answers: AnswerCache,
) -> Judge:
    if settings.endpoint:
        if not settings.model:
            raise InputError("judge.endpoint needs judge.model: the name that the endpoint serves")
        url, name = settings.endpoint, settings.model
    else:
        served = look_up(context.servers, inputs["model"])
        url, name = served.url, served.name
    return Judge(
        url,
        name,
        rubric,
        seed=context.seed,
        concurrency=settings.concurrency,
        rationale_tokens=settings.rationale_tokens,
        cache=answers,
    )


def task_text(task: Mapping[str, Any]) -> str:
    """Returns a task's request as one text: its user turns, or its raw prompt."""
    if task.get("messages"):
        return "\n\n".join(m["content"] for m in task["messages"] if m["role"] == "user")
    return str(task.get("prompt") or "")


def _choose(
    location: Path,
    tasks: Mapping[str, Row],
    outcomes: Mapping[str, str],
    passed_over: frozenset[str],
    limit: int | None,
    skips: Skips,
) -> list[Row]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for place, row in read_samples(location, ("sample_id", "task_id", "sample_index")):
        if row["sample_id"] in passed_over:
            continue
        if row["task_id"] not in tasks:
            skips.add("unknown_task", place, f"no task {row['task_id']} in the tasks table")
        elif not row.get("code"):
            skips.add("no_code", place, "no code was found in the answer")
        else:
            groups[row["task_id"]].append(row)

    def worth(task_id: str) -> tuple[bool, str]:
        accepted = sum(outcomes.get(row["sample_id"]) == "accepted" for row in groups[task_id])
        return accepted < 2, hashlib.sha256(task_id.encode()).hexdigest()

    ordered: list[Row] = []
    for task_id in sorted(groups, key=worth):
        ordered.extend(
            sorted(groups[task_id], key=lambda row: (row["sample_index"], row["sample_id"]))
        )
    return ordered[:limit]


def _row(judgement: Judgement, sample: Row, judge: str) -> Row:
    plain = replace(judgement, judge=judge).to_row()
    row: Row = {name: plain.get(name) for name in schemas.JUDGEMENT.names}
    row["sample_id"], row["task_id"] = sample["sample_id"], sample["task_id"]
    return row


def _summary(
    rows: list[Row], outcomes: Mapping[str, str], content_sha: str, skips: Skips
) -> Summary:
    scored = [row for row in rows if row["status"] == "ok"]
    labelled = [
        (row["task_id"], row["score"], outcomes[row["sample_id"]] == "accepted")
        for row in scored
        if row["sample_id"] in outcomes
    ]
    by_outcome: dict[str, list[float]] = defaultdict(list)
    for row in scored:
        by_outcome[outcomes.get(row["sample_id"], "not run")].append(row["score"])
    means = {name: sum(scores) / len(scores) for name, scores in sorted(by_outcome.items())}
    statuses = Counter(row["status"] for row in rows)
    return Summary(
        content_sha=content_sha,
        counts={"judged": len(rows), **statuses, **skips.counts},
        details={
            "statuses": dict(statuses),
            "mean_score_by_outcome": means,
            "scores": [row["score"] for row in scored],
            "auroc": within_problem_auroc(labelled),
            "skipped": skips.listed,
        },
    )
