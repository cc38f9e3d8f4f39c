"""The entry of the select stage."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from align import rows as schemas
from align.answers import whole_answer
from align.artifacts import Row, canonical_json, short_id
from align.errors import InputError
from align.settings import SelectSettings
from align.stage import Context, Output, Summary
from align.tables import read_by_sample, read_samples
from align.verdicts import check_same

NOT_EXECUTED = "not_executed"
_NEEDED = ("sample_id", "task_id", "finish_reason", "text")
UNSOLVED = pa.schema([("task_id", pa.string()), ("samples", pa.int64()), ("outcomes", pa.string())])


def run(
    settings: SelectSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Keeps the best answers of each task as rows to train on.

    A kept sample ended by itself, and was accepted by strong tests; the best is the one of the
    highest mean log-probability a token under the policy. Where a sample was never executed (its
    task has no tests) the judge decides instead: the best is the one of the highest score, if the
    input `judgements` has one. Equal code counts once. Tasks of which nothing is kept are written
    to `unsolved` with what became of their samples, so that the hard ones are not forgotten.

    Raises:
        InputError: A table can't be read, a sample lacks a column, or nothing is kept.
    """
    verdicts = read_by_sample(inputs["verdicts"], "verdict")
    judgements = _judgements(inputs.get("judgements"))
    scores = {sample_id: float(row["score"]) for sample_id, row in judgements.items()}
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    accepted: dict[str, list[Row]] = defaultdict(list)
    judged: dict[str, list[Row]] = defaultdict(list)
    for place, sample in read_samples(inputs["samples"], _NEEDED):
        verdict = verdicts.get(sample["sample_id"])
        if verdict is not None:
            check_same(place, sample, verdict)
        outcomes[sample["task_id"]][verdict["outcome"] if verdict else NOT_EXECUTED] += 1
        # A raw prompt makes no chat row.
        ended = sample["finish_reason"] == "stop" and sample.get("messages") is not None
        if verdict is None:
            if ended and sample["sample_id"] in scores:
                judged[sample["task_id"]].append(sample)
        elif verdict["outcome"] == "accepted" and verdict["strength"] == "strong" and ended:
            accepted[sample["task_id"]].append(sample)
    kept = {task_id: best(each, settings.per_task) for task_id, each in accepted.items()}
    executed = {each for each, counts in outcomes.items() if set(counts) != {NOT_EXECUTED}}
    for task_id in judged.keys() - executed:  # a judge overrules no verdict
        kept[task_id] = best(judged[task_id], settings.per_task, scores)
    with out.table("unsolved", UNSOLVED, "task_id") as unsolved:
        for task_id in sorted(outcomes.keys() - kept.keys()):
            if task_id not in unsolved.done:
                counts = outcomes[task_id]
                unsolved.add(
                    {
                        "task_id": task_id,
                        "samples": counts.total(),
                        "outcomes": canonical_json(counts),
                    }
                )
    if not kept:
        raise InputError(
            f"{inputs['verdicts']}: no sample was accepted, and none without tests was judged, so "
            "there is nothing to train the fine stage on; sample more, at another temperature, or "
            f"from easier tasks ({out.path / 'unsolved'} lists what became of each)"
        )
    with out.table("rows", schemas.TRAIN_ROW, "row_id") as writer:
        for task_id in sorted(kept):
            for sample in kept[task_id]:
                sample_id = sample["sample_id"]
                row = _train_row(sample, verdicts.get(sample_id) or judgements[sample_id])
                if row["row_id"] not in writer.done:
                    writer.add(row)
    return Summary(
        content_sha=writer.content_sha(),
        counts={
            "rows": writer.rows,
            "tasks": len(outcomes),
            "solved": len(accepted),
            "chosen_by_judge": len(kept) - len(accepted),
            "unsolved": unsolved.rows,
            "accepted": sum(len(samples) for samples in accepted.values()),
        },
    )


def _judgements(table: Path | None) -> dict[str, Row]:
    """Returns the judgements by sample; one that failed has no score and is none."""
    judgements = read_by_sample(table, "judgement")
    return {name: row for name, row in judgements.items() if row["status"] == "ok"}


def best(samples: list[Row], count: int, scores: Mapping[str, float] | None = None) -> list[Row]:
    """Returns the `count` best samples, by score where there are scores; equal code counts once."""

    def rank(sample: Row) -> tuple[float, float, str]:
        mean = (sample.get("sum_logprob") or 0.0) / max(1, sample.get("n_tokens") or 0)
        return -(scores or {}).get(sample["sample_id"], 0.0), -mean, sample["sample_id"]

    distinct: dict[str, Row] = {}
    for sample in sorted(samples, key=rank):
        distinct.setdefault(sample.get("code") or sample["text"], sample)
    return list(distinct.values())[:count]


def _train_row(sample: Row, reason: Row) -> Row:
    answer = {"role": "assistant", "content": whole_answer(sample)}
    messages = [*sample["messages"], answer]
    named = next(name for name in ("verdict_id", "judgement_id") if name in reason)
    origin = {"sample_id": sample["sample_id"], named: reason[named]}
    return {
        "row_id": short_id("t", "chat", messages),
        "kind": "chat",
        "messages": messages,
        "fim": None,
        "weight": 1.0,
        "origin": canonical_json(origin),
        "licence": "made by the policy",
    }
