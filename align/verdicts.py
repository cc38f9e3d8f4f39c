"""Builds the row of a verdict from what the sandbox said; verify and evaluation share it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from align import rows as schemas
from align.artifacts import Row, canonical_json

if TYPE_CHECKING:
    from sandbox import Verdict


def verdict_id(sample_id: str) -> str:
    """Returns the id of a sample's verdict; a run has one verdict a sample."""
    return f"v-{sample_id}"


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
