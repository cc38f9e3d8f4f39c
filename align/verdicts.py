"""Builds the row of a verdict from what the sandbox said; verify and evaluation share it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from align import rows as schemas
from align.artifacts import Row, canonical_json
from align.errors import InputError
from sandbox.grade import code_sha

if TYPE_CHECKING:
    from sandbox import Verdict


def verdict_id(sample_id: str) -> str:
    """Returns the id of a sample's verdict; a run has one verdict a sample."""
    return f"v-{sample_id}"


def check_same(place: str, sample: Row, verdict: Row) -> None:
    """Refuses a verdict of another task, or of another program, than the sample's.

    Raises:
        InputError: It is one.
    """
    if verdict["task_id"] != sample["task_id"]:
        raise InputError(
            f"{place}: the sample is of task {sample['task_id']}, its verdict of "
            f"{verdict['task_id']}; the tables do not belong together"
        )
    ran = verdict.get("code_sha")
    if ran and "code" in sample and ran != code_sha(sample["code"]):
        raise InputError(
            f"{place}: the verdict is of another program than the sample's code; the code was read "
            "out of the answer anew, or changed: verify these samples again"
        )


def verdict_row(sample_id: str, task_id: str, sample_index: int, verdict: Verdict) -> Row:
    """Builds the row of one sample.

    The times of single tests stand in a column of their own, so that two equal runs differ in
    volatile columns alone.
    """
    plain = verdict.to_row()
    row: Row = {name: plain.get(name) for name in schemas.VERDICT.names}
    tests: list[dict[str, Any]] = json.loads(plain["tests"])
    row["test_ms"] = [test.pop("cpu_ms") for test in tests]
    for test in tests:
        test.pop("wall_ms")
    row["tests"] = canonical_json(tests)
    row["run_cpu_ms"] = json.loads(plain["run_cpu_ms"])
    row["sample_id"], row["task_id"], row["sample_index"] = sample_id, task_id, sample_index
    row["verdict_id"] = verdict_id(sample_id)
    return row
