"""Shows preference pairs in the terminal: what differs, and what the label rests on."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.text import Text

from align.artifacts import Row
from align.pair_dataset import RULES
from align.report.words import visible
from align.tables import read_rows

_SIDES = ("chosen", "rejected")
_CONTEXT = 100_000  # lines: whole answers, not hunks of them
_MOST = 600  # characters of a detail or a rationale


@dataclass(frozen=True)
class ShownPair:
    """A pair with the rows that it cites, where they are known.

    Attributes:
        verdicts: By side.
        judgements: By side.
    """

    pair: Row
    verdicts: dict[str, Row]
    judgements: dict[str, Row]


def shown_pairs(
    table: Path,
    number: int,
    *,
    skip: int = 0,
    rule: str | None = None,
    task: str | None = None,
    verdicts: Path | None = None,
    judgements: Path | None = None,
) -> Iterator[ShownPair]:
    """Yields `number` pairs of a table after the first `skip` ones of that rule and task.

    Verdicts and judgements that are not named are looked for where a run keeps them.

    Raises:
        InputError: A table can't be read.
    """
    wanted = (
        row
        for _, row in read_rows(table)
        if rule in (None, row["rule"]) and task in (None, row["task_id"])
    )
    pairs = list(islice(wanted, skip, skip + number))
    verdicts = verdicts or _sibling(table, "verify", "verdicts")
    judgements = judgements or _sibling(table, "judge", "judgements")
    ran = _cited(pairs, verdicts, "verdict_id")
    judged = _cited(pairs, judgements, "judgement_id")
    for pair in pairs:
        yield ShownPair(
            pair, _of_sides(pair, "verdict_id", ran), _of_sides(pair, "judgement_id", judged)
        )


def _sibling(table: Path, stage: str, name: str) -> Path | None:
    """Returns the table of the same round's other stage, if `table` lies in a run's folder."""
    kind, _, turn = table.parent.name.partition(".")
    path = table.parent.parent / f"{stage}.{turn}" / name
    return path if kind == "pair" and path.is_dir() else None


def _cited(pairs: list[Row], table: Path | None, column: str) -> dict[str, Row]:
    ids = {pair.get(f"{side}_{column}") for pair in pairs for side in _SIDES} - {None}
    if table is None or not ids:
        return {}
    return {row[column]: row for _, row in read_rows(table) if row[column] in ids}


def _of_sides(pair: Row, column: str, rows: dict[str, Row]) -> dict[str, Row]:
    cited = {side: pair.get(f"{side}_{column}") for side in _SIDES}
    return {side: rows[row_id] for side, row_id in cited.items() if row_id in rows}


def as_text(shown: ShownPair) -> Text:
    """Returns a pair for the terminal; what could steer the terminal is shown as a symbol."""
    pair = shown.pair
    text = Text(visible(f"{pair['pair_id']}  {pair['task_id']}  {pair['rule']}"), style="bold")
    measured = [
        f"{name.replace('_', ' ')} {pair[name]:.3g}"
        for name in ("margin", "similarity", "length_delta")
        if pair.get(name) is not None
    ]
    meaning = RULES.get(pair["rule"], "")
    text.append(
        "\n" + ": ".join(filter(None, [meaning, ", ".join(measured)])), style="not bold dim"
    )
    for message in pair["prompt"]:
        text.append(f"\n{visible(message['role'])}\n", style="bold")
        text.append(visible(message["content"]), style="not bold")
    text.append("\nfrom rejected (-) to chosen (+)\n", style="bold")
    for line in _diff(*(pair[side][-1]["content"] for side in ("rejected", "chosen"))):
        style = {"+": "green", "-": "red"}.get(line[:1], "dim")
        text.append(visible(line) + "\n", style=f"not bold {style}")
    for side in _SIDES:
        text.append(_reasons(shown, side))
    return text


def _diff(rejected: str, chosen: str) -> list[str]:
    lines = difflib.unified_diff(
        rejected.splitlines(), chosen.splitlines(), lineterm="", n=_CONTEXT
    )
    return list(lines)[3:]  # without the names of files and lines


def _reasons(shown: ShownPair, side: str) -> Text:
    pair = shown.pair
    text = Text(f"{side}", style="bold")
    facts = []
    if pair.get(f"{side}_outcome"):
        facts.append(str(pair[f"{side}_outcome"]).replace("_", " "))
    if pair.get(f"{side}_total"):
        facts.append(f"{pair[f'{side}_passed']} of {pair[f'{side}_total']} tests passed")
    if pair.get(f"{side}_tokens") is not None:
        facts.append(f"{pair[f'{side}_tokens']} tokens")
    if pair.get(f"{side}_score") is not None:
        facts.append(f"the judge's score {pair[f'{side}_score']:.3g}")
    text.append(": " + (", ".join(facts) or "nothing more is known") + "\n", style="not bold")
    if verdict := shown.verdicts.get(side):
        failed = [t for t in json.loads(verdict["tests"] or "[]") if t["outcome"] != "accepted"]
        for test in failed[:1]:
            said = f"test {test['index']}, {test['outcome'].replace('_', ' ')}: {test['detail']}"
            text.append(f"  {visible(said, _MOST)}\n", style="not bold yellow")
    if judgement := shown.judgements.get(side):
        said = judgement.get("rationale") or ""
        text.append(f"  the judge: {visible(said, _MOST)}\n", style="not bold italic")
    return text
