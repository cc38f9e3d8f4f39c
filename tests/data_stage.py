"""Rows, tasks and settings of the data stage, and its run."""

import json
from pathlib import Path
from typing import Any

from align.data import run
from align.settings import DataSettings
from align.stage import Output, Summary
from align.tables import read_rows
from tests.conftest import RecordingContext


def chat(question: str, answer: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "source": "test", "licence": "Apache-2.0"}


def task(name: str, **more: Any) -> dict[str, Any]:
    tests = {"kind": "calls", "cases": [{"args": [1], "kwargs": {}, "expected": 2}]}
    return {
        "task_id": name,
        "language": "python",
        "messages": [{"role": "user", "content": f"Write {name}."}],
        "entry_point": "f",
        "tests": tests,
        "reference": "def f(x):\n    return x + 1\n",
        **more,
    }


def write(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def stage(
    output: Output,
    context: RecordingContext,
    rows: Path | list[dict[str, Any]] | None,
    tasks: Path | None,
    **more: Any,
) -> Summary:
    sources = [{"path": str(rows)}] if isinstance(rows, Path) else rows or []
    inputs = {f"rows.{n}": Path(source["path"]) for n, source in enumerate(sources)}
    if tasks:
        inputs["tasks.0"] = tasks
    content = {"rows": sources, "tasks": [str(tasks)] if tasks else [], **more}
    return run(DataSettings.model_validate(content), inputs, output, context)


def table(output: Output, name: str) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(output.path / name)]
