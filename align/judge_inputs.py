"""What judges are given: rubrics, samples in their order, candidates; the judge stages share it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.artifacts import Row, sha256_text
from align.errors import InputError
from align.skips import Skips
from align.tables import read_samples
from judges import Candidate, JudgeError, Rubric, load_rubric

#: Outcomes that say nothing of the code, and so can't tell whether a judge is right.
NO_LABEL = frozenset({"infra_error", "flaky", "invalid_task", "tampered"})


def rubric_sha(name: str) -> str:
    """Returns the hash of what a rubric says.

    Raises:
        InputError: There is no such rubric, or it can't be read.
    """
    return sha256_text(find_rubric(name).model_dump_json())


def find_rubric(name: str) -> Rubric:
    """Loads a rubric.

    Raises:
        InputError: There is no such rubric, or it can't be read.
    """
    try:
        return load_rubric(name)
    except JudgeError as error:
        raise InputError(str(error)) from error


def task_text(task: Mapping[str, Any]) -> str:
    """Returns a task's request as one text: its user turns, or its raw prompt."""
    if task.get("messages"):
        return "\n\n".join(m["content"] for m in task["messages"] if m["role"] == "user")
    return str(task.get("prompt") or "")


def candidate_of(sample: Row, tasks: Mapping[str, Row], verdicts: Mapping[str, Row]) -> Candidate:
    """Returns a sample as a judge is given it."""
    task = tasks[sample["task_id"]]
    verdict = verdicts.get(sample["sample_id"])
    outcomes = ""
    if verdict is not None:
        # Not the verdict's detail: messages and values in it are what the candidate wrote.
        outcomes = f"{verdict['outcome']}: {verdict['passed']} of {verdict['total']} tests passed"
    return Candidate(
        sample["sample_id"],
        task_text(task),
        sample["code"],
        language=task.get("language") or "python",
        reference=task.get("reference") or "",
        outcomes=outcomes,
    )


def choose_samples(
    location: Path,
    tasks: Mapping[str, Row],
    verdicts: Mapping[str, Row],
    passed_over: frozenset[str],
    most: int | None,
    skips: Skips,
) -> list[Row]:
    """Returns `most` samples with code in the order in which they are judged: task by task.

    Tasks of two accepted samples come first, as far as `verdicts` tells; else by hash.
    """
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
        accepted = sum(
            verdicts.get(row["sample_id"], {}).get("outcome") == "accepted"
            for row in groups[task_id]
        )
        return accepted < 2, hashlib.sha256(task_id.encode()).hexdigest()

    ordered: list[Row] = []
    for task_id in sorted(groups, key=worth):
        ordered.extend(
            sorted(groups[task_id], key=lambda row: (row["sample_index"], row["sample_id"]))
        )
    return ordered[:most]


def good_ones(
    samples: Sequence[Row],
    candidates: Mapping[str, Candidate],
    verdicts: Mapping[str, Row],
    most: int,
) -> list[Candidate]:
    """Returns one accepted sample a task, `most` of them, to plant faults in."""
    found: dict[str, Candidate] = {}
    for row in samples:
        verdict = verdicts.get(row["sample_id"])
        if verdict is not None and verdict["outcome"] == "accepted":
            found.setdefault(row["task_id"], candidates[row["sample_id"]])
    return list(found.values())[:most]


def with_needs(
    samples: Sequence[Row], candidates: Mapping[str, Candidate], rubric: Rubric, skips: Skips
) -> list[Row]:
    """Returns the samples that have what the rubric shows the judge beside the code."""
    found = []
    for row in samples:
        candidate = candidates[row["sample_id"]]
        missing = [need for need in sorted(rubric.needs) if not getattr(candidate, need)]
        if missing:
            reason = f"rubric {rubric.full_name} shows the judge its {', '.join(missing)}"
            skips.add("no_" + missing[0], row["sample_id"], reason)
        else:
            found.append(row)
    return found
