"""The entry of the select stage."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from align import rows as schemas
from align.artifacts import Row, canonical_json, short_id
from align.errors import InputError
from align.settings import SelectSettings
from align.stage import Context, Output, Summary
from align.tables import read_rows

UNSOLVED = pa.schema([("task_id", pa.string()), ("samples", pa.int64()), ("outcomes", pa.string())])


def run(
    settings: SelectSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Keeps the best accepted answers of each task as rows to train on.

    A kept sample was accepted by strong tests and ended by itself. The best is the one of the
    highest mean log-probability a token under the policy; equal code counts once. Tasks that nobody
    solved are written to `unsolved`, so that the hard ones are not forgotten.

    Raises:
        InputError: A table can't be read, or not one sample was accepted.
    """
    verdicts = {row["sample_id"]: row for _, row in read_rows(inputs["verdicts"])}
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    accepted: dict[str, list[Row]] = defaultdict(list)
    for _, sample in read_rows(inputs["samples"]):
        verdict = verdicts.get(sample["sample_id"])
        if verdict is None:
            continue
        outcomes[sample["task_id"]][verdict["outcome"]] += 1
        ended = sample["finish_reason"] == "stop"
        if verdict["outcome"] == "accepted" and verdict["strength"] == "strong" and ended:
            accepted[sample["task_id"]].append(sample)
    if not accepted:
        raise InputError(
            f"{inputs['verdicts']}: no sample was accepted, so there is nothing to train the fine "
            "stage on; sample more, at another temperature, or from easier tasks"
        )
    with out.table("rows", schemas.TRAIN_ROW, "row_id") as writer:
        for task_id in sorted(accepted):
            for sample in best(accepted[task_id], settings.per_task):
                row = _train_row(sample, verdicts[sample["sample_id"]]["verdict_id"])
                if row["row_id"] not in writer.done:
                    writer.add(row)
    with out.table("unsolved", UNSOLVED, "task_id") as unsolved:
        for task_id in sorted(set(outcomes) - set(accepted)):
            if task_id not in unsolved.done:
                counts = outcomes[task_id]
                row = {
                    "task_id": task_id,
                    "samples": counts.total(),
                    "outcomes": canonical_json(counts),
                }
                unsolved.add(row)
    return Summary(
        content_sha=writer.content_sha(),
        counts={
            "rows": writer.rows,
            "tasks": len(outcomes),
            "solved": len(accepted),
            "unsolved": unsolved.rows,
            "accepted": sum(len(samples) for samples in accepted.values()),
        },
    )


def best(samples: list[Row], count: int) -> list[Row]:
    """Returns the `count` best samples, equal code counted once."""

    def rank(sample: Row) -> tuple[float, str]:
        mean = (sample["sum_logprob"] or 0.0) / max(1, sample["n_tokens"] or 0)
        return -mean, sample["sample_id"]

    distinct: dict[str, Row] = {}
    for sample in sorted(samples, key=rank):
        distinct.setdefault(sample["code"], sample)
    return list(distinct.values())[:count]


def _train_row(sample: Row, verdict_id: str) -> Row:
    answer = (sample["prefill"] or "") + sample["text"]
    messages = [*sample["messages"], {"role": "assistant", "content": answer}]
    origin = {"sample_id": sample["sample_id"], "verdict_id": verdict_id}
    return {
        "row_id": short_id("t", "chat", messages),
        "kind": "chat",
        "messages": messages,
        "fim": None,
        "weight": 1.0,
        "origin": canonical_json(origin),
        "licence": "made by the policy",
    }
