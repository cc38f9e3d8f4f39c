"""The judge stage: scores samples by a rubric; it orders them only inside an outcome class."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from align import rows as schemas
from align.artifacts import Row, canonical_json, sha256_text, write_json
from align.asking import JudgeAsker
from align.errors import InputError
from align.judge_inputs import (
    NO_LABEL,
    candidate_of,
    choose_samples,
    find_rubric,
    good_ones,
    with_needs,
)
from align.lineage import kinship
from align.manifest import CALIBRATION
from align.planted import planted_faults
from align.settings import JudgeSettings
from align.skips import Skips
from align.stage import Context, Output, Summary
from align.tables import read_by_sample, read_rows, read_tasks
from judges import (
    AnswerCache,
    Candidate,
    Judgement,
    Preference,
    Rubric,
    Status,
    Usage,
    within_problem_auroc,
)
from judges.calibration import order_consistency
from judges.tournament import schedule, standings


def run(
    settings: JudgeSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Scores samples of `samples` (with `tasks`, and `verdicts` where there are) by the rubric.

    The judge is the model of the input `model`, served by the run, or what answers at
    `settings.endpoint`. Samples are taken task by task, so that within `max_samples` as many tasks
    as possible have two samples to order. With a pairwise rubric the samples of a task are compared
    with one another, and a sample's score is its mean probability of being the better one.

    Writes `judgements`, and `calibration.json`: what these judgements say of the judge itself.

    Raises:
        InputError: A table is empty or can't be read, or no sample has code.
        ServingError: The judge's server can't be started or kept alive.
    """
    tasks = read_tasks(inputs["tasks"])
    verdicts = read_by_sample(inputs.get("verdicts"), "verdict")
    skips = Skips(context)
    passed_over = frozenset() if settings.executed else frozenset(verdicts)
    rubric = find_rubric(settings.rubric)
    samples = choose_samples(
        inputs["samples"], tasks, verdicts, passed_over, settings.max_samples, skips
    )
    candidates = {row["sample_id"]: candidate_of(row, tasks, verdicts) for row in samples}
    samples = with_needs(samples, candidates, rubric, skips)
    if not samples and settings.executed:
        raise InputError(f"{inputs['samples']} holds no sample to judge: {skips.first()}")
    calibration: dict[str, Any] = {}
    with out.table("judgements", schemas.JUDGEMENT, "sample_id") as writer:
        todo = [row for row in samples if row["sample_id"] not in writer.done]
        with (
            context.progress("judge", len(samples)) as bar,
            closing(AnswerCache(out.path / "answers.jsonl")) as answers,
        ):
            bar.advance(len(samples) - len(todo))
            if samples:
                asker = JudgeAsker(settings, inputs, context, answers)
                if kin := _kin(asker, samples):
                    calibration["kin"] = kin
                    context.warn(f"{kin}: models favour answers like their own")
                judged = _tournaments if rubric.kind == "pairwise" else _scores
                # A tournament is of all samples of a task, also of those that have their row.
                asked = samples if rubric.kind == "pairwise" else todo
                for row in judged(asker, rubric, asked, candidates, settings, calibration):
                    if row["sample_id"] not in writer.done:
                        writer.add(row)
                        bar.advance()
                if rubric.measures == "quality" and rubric.kind != "checklist":
                    originals = good_ones(samples, candidates, verdicts, settings.planted)
                    calibration["planted"] = planted_faults(asker, rubric, originals)
    # In one order, however they came: intervals are drawn from them by place.
    table = read_rows(out.path / "judgements")
    rows = sorted((row for _, row in table), key=lambda row: str(row["sample_id"]))
    outcomes = {sample_id: row["outcome"] for sample_id, row in verdicts.items()}
    told = {} if "outcomes" in rubric.needs else outcomes  # who was told can't be measured by it
    summary = _summary(rows, outcomes, told, skips, calibration)
    figures = ("auroc", "order_consistency", "planted", "kin")
    found = {key: summary.details[key] for key in figures if key in summary.details}
    write_json(out.path / CALIBRATION, found)
    # Who builds pairs reads the figures, too: other ones are another content.
    sha = sha256_text(canonical_json([writer.content_sha(), found]))
    return replace(summary, content_sha=sha)


def _kin(asker: JudgeAsker, samples: Sequence[Row]) -> str | None:
    """Says in which way the judge is related to the samples' policy, or None."""
    policies = {canonical_json(row.get("policy") or {}): row.get("policy") or {} for row in samples}
    for policy in policies.values():
        if asker.weights_sha is not None and policy.get("weights_sha") == asker.weights_sha:
            return "the judge is the policy itself"
        if kin := kinship(asker.model, policy.get("model") or ""):
            return kin
    return None


def _scores(
    asker: JudgeAsker,
    rubric: Rubric,
    todo: Sequence[Row],
    candidates: Mapping[str, Candidate],
    settings: JudgeSettings,
    calibration: dict[str, Any],
) -> Iterator[Row]:
    rows = {row["sample_id"]: row for row in todo}
    for judgement in asker.score(rubric, (candidates[sample_id] for sample_id in rows)):
        yield _row(judgement, rows[judgement.candidate_ids[0]], asker.name)


def _tournaments(
    asker: JudgeAsker,
    rubric: Rubric,
    todo: Sequence[Row],
    candidates: Mapping[str, Candidate],
    settings: JudgeSettings,
    calibration: dict[str, Any],
) -> Iterator[Row]:
    """Yields a row for each sample whose task has another one, from all comparisons of the task."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in todo:
        groups[row["task_id"]].append(row)
    games: dict[str, list[Preference]] = defaultdict(list)
    tasks: dict[str, str] = {row["sample_id"]: row["task_id"] for row in todo}
    pairs = [
        (candidates[a], candidates[b])
        for task_id, group in groups.items()
        if len(group) > 1
        for a, b in schedule([row["sample_id"] for row in group], settings.comparisons, asker.seed)
    ]
    # In one order, however they were answered: means of floats depend on it, and texts do.
    answered = sorted(asker.compare(rubric, pairs), key=lambda each: each.candidate_ids)
    for preference in answered:
        games[tasks[preference.candidate_ids[0]]].append(preference)
    calibration["order_consistency"] = order_consistency(
        (task_id, preference) for task_id, played in games.items() for preference in played
    )
    for task_id, played in games.items():
        scores = standings(played)
        for row in groups[task_id]:
            own = [p for p in played if row["sample_id"] in p.candidate_ids]
            if own:
                yield _row(_standing(row["sample_id"], rubric, own, scores), row, asker.name)


def _standing(
    sample_id: str, rubric: Rubric, own: Sequence[Preference], scores: Mapping[str, float]
) -> Judgement:
    """Returns a sample's comparisons as one judgement."""
    asked = [judgement for preference in own for judgement in preference.judgements]
    score = scores.get(sample_id)
    failed = next((p for p in own if p.status is not Status.OK), None)
    status = Status.OK if score is not None else failed.status if failed else Status.PARSE_ERROR
    return Judgement(
        candidate_ids=(sample_id,),
        rubric=rubric.full_name,
        rubric_sha=rubric.sha,
        status=status,
        score=score,
        judge="",
        prompt_sha=sha256_text(json.dumps(sorted(each.prompt_sha for each in asked))),
        rationale="\n\n".join(each.rationale for each in asked),
        usage=sum((each.usage for each in asked), Usage()),
        detail="" if score is not None else next(each.detail for each in asked if each.detail),
    )


def _row(judgement: Judgement, sample: Row, judge: str) -> Row:
    plain = replace(judgement, judge=judge).to_row()
    row: Row = {name: plain.get(name) for name in schemas.JUDGEMENT.names}
    row["sample_id"], row["task_id"] = sample["sample_id"], sample["task_id"]
    return row


def _summary(
    rows: list[Row],
    outcomes: Mapping[str, str],
    labels: Mapping[str, str],
    skips: Skips,
    calibration: Mapping[str, Any],
) -> Summary:
    scored = [row for row in rows if row["status"] == "ok"]
    labelled = [
        (row["task_id"], row["score"], labels[row["sample_id"]] == "accepted")
        for row in scored
        if row["sample_id"] in labels and labels[row["sample_id"]] not in NO_LABEL
    ]
    by_outcome: dict[str, list[float]] = defaultdict(list)
    for row in scored:
        by_outcome[outcomes.get(row["sample_id"], "not run")].append(row["score"])
    means = {name: sum(scores) / len(scores) for name, scores in sorted(by_outcome.items())}
    statuses = Counter(row["status"] for row in rows)
    auroc = within_problem_auroc(labelled)
    return Summary(
        content_sha="",
        counts={"judged": len(rows), **statuses, **skips.counts},
        details={
            "statuses": dict(statuses),
            "mean_score_by_outcome": means,
            "scores": [row["score"] for row in scored],
            "auroc": auroc,
            **calibration,
            "skipped": skips.listed,
        },
    )
