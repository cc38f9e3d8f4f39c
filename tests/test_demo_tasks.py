"""The demo's tasks: every reference passes its tests, and nothing that is empty does."""

from pathlib import Path

import pytest

from align.tables import read_rows
from sandbox import Sandbox, check_task, parse_task

TASKS = Path(__file__).parent.parent / "recipes" / "demo" / "tasks"


@pytest.fixture(scope="module")
def tasks() -> list[dict[str, object]]:
    return [row for _, row in read_rows(TASKS)]


def test_there_are_enough_of_them_with_ids_of_their_own(tasks: list[dict[str, object]]) -> None:
    assert len(tasks) >= 120
    assert len({row["task_id"] for row in tasks}) == len(tasks)
    assert {row["licence"] for row in tasks} == {"Apache-2.0"}


def test_references_pass_and_stubs_fail(tasks: list[dict[str, object]]) -> None:
    faults = []
    with Sandbox(engine="namespaces", isolation="ns", workers=2) as box:
        for row in tasks:
            report = check_task(box, parse_task(row))
            if not report.ok or report.strength != "strong":
                faults.append(f"{row['task_id']}: {report}")
    assert faults == []
