"""A folder of preference pairs as a dataset: its card and its file; stages and verbs share it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.artifacts import Row, write_atomic, write_parquet
from align.errors import InputError
from align.manifest import CALIBRATION, FACTS, beside, read_manifest
from align.rows import PAIR
from align.tables import read_rows

RULES = {
    "exec_strict": "passed every unit test, over one that failed at least one",
    "exec_margin": "passed most unit tests, over one that passed clearly fewer, but some",
    "judge_within_accepted": "both passed every test; a judge scored the chosen one higher",
    "judge_open": "the task has no tests; a judge scored the chosen one higher",
    "efficiency": "both passed every test; the chosen one took clearly less CPU time in all runs",
    "debug": "the repaired version, over the failing attempt that it repairs",
    "code_test_rank": "ranked higher by mutual ranking of samples and tests",
    "agreement": "ranked higher by the agreement of samples and tests",
    "common": "general pairs, mixed in as they were",
}

_HEAD = """---
task_categories:
- text-generation
tags:
- code
- preference
- code-align
configs:
- config_name: default
  data_files: train.parquet
---

# Preference pairs for code
"""
_USE = """## Use

```python
from datasets import load_dataset

pairs = load_dataset("...", split="train").select_columns(["prompt", "chosen", "rejected"])
```
"""


def facts_beside(table: Path | None) -> dict[str, Any]:
    """Returns what the stage that wrote a table said of it; nothing where the table came alone."""
    if table is None:
        return {}
    for name in (CALIBRATION, FACTS):
        if (path := beside(table, name)).is_file():
            return dict(json.loads(path.read_text(encoding="utf-8")))
    manifest = read_manifest(table.parent) if table.is_dir() else None
    details: dict[str, Any] = manifest["details"] if manifest else {}
    return details


@dataclass
class _Numbers:
    pairs: int = 0
    tasks: set[str] = field(default_factory=set)
    rules: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)


def pair_card(rows: Iterable[Row], facts: Mapping[str, Any]) -> str:
    """Returns the README of a preference dataset.

    Args:
        rows: The pairs.
        facts: What the pair stage said of them (`facts_beside`); may be empty.
    """
    numbers = _Numbers()
    for row in rows:
        numbers.pairs += 1
        numbers.tasks.add(str(row["task_id"]))
        numbers.rules[str(row["rule"])] += 1
        numbers.languages[row.get("language") or "unknown"] += 1
        numbers.licences[row.get("licence") or "unknown"] += 1
        if row.get("chosen_outcome"):
            numbers.outcomes[(row["chosen_outcome"], row["rejected_outcome"])] += 1
    lines = [
        _HEAD,
        f"Pairs: {numbers.pairs}; tasks: {len(numbers.tasks)}. The columns `prompt`, `chosen` and",
        "`rejected` are message lists, in the form that TRL's DPOTrainer takes; `chosen` and",
        "`rejected` hold the assistant's turn. The other columns cite the samples, verdicts and",
        "judgements that the label rests on.",
        "",
        _USE,
        "| rule | pairs | the chosen answer |",
        "|---|---|---|",
        *(
            f"| {rule} | {count} | {RULES.get(rule, '')} |"
            for rule, count in _sorted(numbers.rules)
        ),
        "",
        *_outcomes(numbers.outcomes),
        *_yield(facts),
        *_lengths(facts.get("lengths") or {}),
        *_judge(facts.get("judge") or {}, facts.get("judge_kin")),
        *_decontamination(facts.get("decontaminated_against")),
        *_counted("Languages", "language", numbers.languages),
        *_counted("Licences of the tasks", "licence", numbers.licences),
    ]
    return "\n".join(lines)


def _sorted(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _counted(heading: str, column: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    rows = [f"| {name} | {count} |" for name, count in _sorted(counts)]
    return [f"## {heading}", "", f"| {column} | number |", "|---|---|", *rows, ""]


def _outcomes(counts: Mapping[tuple[str, str], int]) -> list[str]:
    if not counts:
        return []
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [f"| {chosen} | {rejected} | {count} |" for (chosen, rejected), count in ordered]
    head = ["## Outcomes", "", "| chosen | rejected | pairs |", "|---|---|---|"]
    return [*head, *rows, ""]


def _yield(facts: Mapping[str, Any]) -> list[str]:
    return [
        *_counted("Prompts by what their samples did", "samples", facts.get("prompts") or {}),
        *_counted("Matches that made no pair", "reason", facts.get("refused") or {}),
    ]


def _lengths(lengths: Mapping[str, Any]) -> list[str]:
    mean = lengths.get("mean_delta")
    if mean is None:
        return []
    return [
        "## Lengths",
        "",
        f"Tokens of the chosen answer less those of the rejected one: {mean:+.1f} on average;",
        f"above zero in {lengths['longer']} pairs, below in {lengths['shorter']}, zero in",
        f"{lengths['equal']} (sign test: p = {lengths['p']:.3g}). General pairs are not counted.",
        "",
    ]


def _judge(judge: Mapping[str, Any], kin: str | None) -> list[str]:
    figures = [f"| {name} | {_figure(value)} |" for name, value in judge.items() if _figure(value)]
    lines = []
    if figures:
        lines += ["## The judge's calibration", "", "| figure | value |", "|---|---|", *figures, ""]
    if kin:
        warning = f"**{kin[0].upper()}{kin[1:]}.** Models favour answers like their own: read the"
        lines += ["## Judge and policy", "", warning, "pairs that the judge made with care.", ""]
    return lines


def _figure(value: Any) -> str:
    """Returns a number, or a mapping of numbers, in words; anything else is no figure."""
    if isinstance(value, Mapping):
        inner = {
            name: _figure(each) for name, each in value.items() if not isinstance(each, Mapping)
        }
        return ", ".join(f"{name} {text}" for name, text in inner.items() if text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:.4g}"


def _decontamination(against: Any) -> list[str]:
    if against is None:
        return []
    names = ", ".join(against) or "nothing"
    return [
        "## Decontamination",
        "",
        f"The tasks were checked against: {names}. General pairs were not checked here.",
        "",
    ]


def write_dataset(pairs: Path, folder: Path) -> int:
    """Writes a table of pairs as a dataset folder: `train.parquet` with all columns, and a card.

    Returns:
        How many pairs it holds.

    Raises:
        InputError: The table can't be read, or a row is no pair.
        ArtifactError: The folder can't be written.
    """
    rows = []
    for place, row in read_rows(pairs):
        if any(not row.get(name) for name in ("prompt", "chosen", "rejected")):
            raise InputError(f"{place}: a pair needs prompt, chosen and rejected")
        rows.append({name: row.get(name) for name in PAIR.names})
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(folder / "train.parquet", rows, PAIR)
    write_atomic(folder / "README.md", pair_card(rows, facts_beside(pairs)).encode())
    return len(rows)
