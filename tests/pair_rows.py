"""Candidates, and the rows of the tables that pairs are made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from align import rows as schemas
from align.artifacts import Identity, write_parquet
from align.preference import run
from align.preference.candidates import Candidate
from align.settings import PairSettings
from align.stage import Output
from align.tables import read_rows
from tests.conftest import RecordingContext

GOOD = "def f(x):\n    return x + 1\n"
BETTER = "def f(number):\n    return number + 1\n"
BAD = "def f(x):\n    return x\n"
WORSE = "def f(x):\n    raise ValueError(x)\n"


def candidate(name: str, outcome: str, code: str | None = GOOD, **more: Any) -> Candidate:
    passed = 10 if outcome == "accepted" else 5
    values: dict[str, Any] = {
        "sample_id": name,
        "task_id": "t",
        "messages": [{"role": "user", "content": "add one"}],
        "text": f"```python\n{code}```",
        "code": code,
        "n_tokens": 10,
        "finish_reason": "stop",
        "outcome": outcome,
        "passed": passed,
        "total": 10,
        "tests": (True,) * passed + (False,) * (10 - passed),
        "verdict_id": f"v-{name}",
    }
    return Candidate(**{**values, **more})


def sample(name: str, code: str, **more: Any) -> dict[str, Any]:
    row = dict.fromkeys(schemas.SAMPLE.names)
    row |= {
        "sample_id": name,
        "task_id": "t",
        "sample_index": 0,
        "messages": [{"role": "user", "content": "add one"}],
        "prefill": "",
        "text": code,
        "code": code,
        "finish_reason": "stop",
        "n_tokens": len(code),
    }
    return {**row, **more}


def verdict(name: str, outcome: str, **more: Any) -> dict[str, Any]:
    row = dict.fromkeys(schemas.VERDICT.names)
    row |= {"verdict_id": f"v-{name}", "sample_id": name, "task_id": "t", "outcome": outcome}
    row |= {"passed": 4 if outcome == "accepted" else 1, "total": 4, "strength": "strong"}
    return {**row, **more}


def judgement(name: str, score: float | None, **more: Any) -> dict[str, Any]:
    row = dict.fromkeys(schemas.JUDGEMENT.names)
    row |= {"judgement_id": f"j-{name}", "sample_id": name, "task_id": "t", "score": score}
    return {**row, "status": "parse_error" if score is None else "ok", **more}


def build(
    folder: Path,
    samples: list[dict[str, Any]],
    verdicts: list[dict[str, Any]],
    judgements: list[dict[str, Any]] | None = None,
    context: RecordingContext | None = None,
    tables: dict[str, Path] | None = None,
    **settings: Any,
) -> tuple[Any, list[dict[str, Any]]]:
    folder.mkdir(exist_ok=True)
    given = {"samples": samples, "verdicts": verdicts, "judgements": judgements}
    inputs = dict(tables or {})
    for name, rows in given.items():
        if rows is not None:
            inputs[name] = folder / f"{name}.parquet"
            schema = getattr(schemas, name.upper().removesuffix("S"))
            write_parquet(inputs[name], rows, schema)
    output = Output(folder / "out", Identity("pair", "config"))
    trusted = {"judge_within_accepted": {"floors": {}}, "judge_open": {"floors": {}}}
    asked = PairSettings.model_validate({**trusted, **settings})
    summary = run(asked, inputs, output, context or RecordingContext())
    return summary, [row for _, row in read_rows(folder / "out" / "pairs")]
