"""Scores instruction rows by the checklist: nine questions to a judge about each row."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from align import rows as schemas
from align.artifacts import Row, read_shards
from align.asking import JudgeAsker
from align.errors import InputError
from align.judge_inputs import find_rubric
from align.settings import CHECKLIST, JudgeSettings
from align.skips import Skips
from align.stage import Context, Output, Summary
from align.tables import read_rows
from judges import AnswerCache, Candidate


def run(
    settings: JudgeSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Writes the chat rows of `rows` with their `checklist`; `data.quality` filters by it.

    A score is the judge's probability of a yes, 0 to 1. A row that could not be judged keeps an
    empty checklist and is counted by what happened to it.

    Raises:
        InputError: The rubric is no checklist of the nine items, or the table has no chat row.
        ServingError: The judge's server can't be started or kept alive; answers are kept.
    """
    rubric = find_rubric(settings.rubric)
    items = {dimension.name for dimension in rubric.dimensions}
    if rubric.kind != "checklist" or items != set(CHECKLIST):
        raise InputError(
            f"rubric {rubric.full_name} is no checklist of the items {', '.join(CHECKLIST)}"
        )
    skips = Skips(context)
    rows: dict[str, Row] = {}
    for place, row in read_rows(inputs["rows"]):
        if not row.get("row_id") or not row.get("messages"):
            skips.add(
                "no_chat_row", place, "it has no row_id or no messages; run `align data` first"
            )
        else:
            rows[row["row_id"]] = row
    if not rows:
        raise InputError(f"{inputs['rows']} holds no chat row: {skips.first()}")
    with out.table("rows", schemas.DATA_ROW, "row_id") as writer:
        todo = {key: row for key, row in rows.items() if key not in writer.done}
        with (
            context.progress("score rows", len(rows)) as bar,
            closing(AnswerCache(out.path / "answers.jsonl")) as answers,
        ):
            bar.advance(len(rows) - len(todo))
            asker = JudgeAsker(settings, inputs, context, answers)
            for judgement in asker.score(rubric, map(_candidate, todo.values())):
                row = {
                    name: todo[judgement.candidate_ids[0]].get(name)
                    for name in schemas.DATA_ROW.names
                }
                writer.add({**row, "checklist": judgement.probs or None, "quality": None})
                if not judgement.probs:
                    row_id, status = judgement.candidate_ids[0], judgement.status.value
                    context.log("unscored", row=row_id, status=status, detail=judgement.detail)
                bar.advance()
    scored = sum(bool(row["checklist"]) for row in read_shards(out.path / "rows"))
    counts = {"rows": len(rows), "scored": scored, "unscored": len(rows) - scored}
    counts |= skips.counts
    return Summary(writer.content_sha(), counts, {"skipped": skips.listed})


def _candidate(row: Row) -> Candidate:
    """Returns a row as a judge is given it: everything before the last answer, and that answer."""
    *before, answer = row["messages"]
    asked = "\n\n".join(f"{each['role']}: {each['content']}" for each in before)
    return Candidate(row["row_id"], asked, answer["content"], language="text")
