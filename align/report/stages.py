"""The stages of a run's folder: which are there, which are done, and the rows of their tables."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.artifacts import Row, read_shards, shard_paths
from align.lineage import REPEATED
from align.manifest import input_names, read_identity, read_manifest, tells_inputs

#: The instances of a full run in their order; others stand behind them in the order they ended.
STAGES = (
    "data",
    "eval.start",
    "sft.coarse",
    "sample.fine",
    "eval.coarse",
    "verify.fine",
    "judge.fine",
    "select.fine",
    "sft.fine",
    "eval.fine",
    "fim",
    "sft.mixed",
    "sample.r1",
    "eval.mixed",
    "verify.r1",
    "judge.r1",
    "pair.r1",
    "dpo.r1",
    "eval.dpo",
    "export",
    "report",
)


#: With those that a full run has only where its recipe asks for made tasks, for infilling tokens,
#: or for a control.
_ORDER = (
    "make",
    *STAGES[: STAGES.index("sft.mixed")],
    "fim.tokens",
    "eval.fim.tokens",
    *STAGES[STAGES.index("sft.mixed") : STAGES.index("dpo.r1")],
    "sft.chosen.r1",
    "eval.sft_on_chosen",
    *STAGES[STAGES.index("dpo.r1") :],
)


_OUTDATED = "made from an earlier result of a stage that has another now; run again"


@dataclass(frozen=True)
class Stage:
    """One stage instance.

    Attributes:
        manifest: What it ended with; None where it is not done.
        failure: The last error it ended by, where it is not done.
    """

    id: str
    folder: Path
    manifest: Mapping[str, Any] | None
    failure: str | None = None

    @property
    def done(self) -> bool:
        """Whether it is done."""
        return self.manifest is not None

    @property
    def seconds(self) -> float:
        """How long it took; 0 where it is not done."""
        return float(self.manifest["seconds"]) if self.manifest else 0.0

    @property
    def counts(self) -> Mapping[str, int]:
        """Its counts; empty where it is not done."""
        return self.manifest["counts"] if self.manifest else {}

    @property
    def details(self) -> Mapping[str, Any]:
        """Its details; empty where it is not done."""
        return self.manifest["details"] if self.manifest else {}

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its settings; empty where it is not done."""
        return self.manifest["settings"] if self.manifest else {}


def events_of(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yields the warnings, failures and ends of stages that a run's log holds."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a killed process may have torn its last line
            if event.get("event") in ("warning", "failed", "done"):
                yield event


def stages_of(folder: Path, events: Iterable[Mapping[str, Any]]) -> list[Stage]:
    """Returns the stages that a run has begun, in their order.

    One that was made from what another has replaced since counts as not done. One that the recipe
    had no more when the report was written is left out.

    Raises:
        ArtifactError: A manifest can't be read.
    """
    failures: dict[str, str] = {}
    for event in events:
        if event["event"] == "failed":
            failures[event["stage"]] = str(event["error"])
        elif event["event"] == "done":
            failures.pop(event["stage"], None)
    found = []
    if folder.is_dir():
        for path in folder.iterdir():
            if path.is_dir() and read_identity(path) is not None:
                manifest = read_manifest(path)
                failure = None if manifest else failures.get(path.name)
                found.append(Stage(path.name, path, manifest, failure))
    found = _without_removed(_outdated_undone(found))

    def place(stage: Stage) -> tuple[int, int, int, str, str]:
        first, turn = _in_first_round(stage.id.replace(f"eval.{REPEATED}", "eval."))
        known = _ORDER.index(first) if first in _ORDER else len(_ORDER)
        finished = stage.manifest["finished"] if stage.manifest else ""
        if turn > 1:  # a later round stands behind the first one, in that one's order
            return _ORDER.index("eval.dpo"), turn, known, finished, stage.id
        return known, turn, int(REPEATED in stage.id), finished, stage.id

    # While the report is being written, its own stage is begun and says nothing.
    return sorted((s for s in found if s.done or s.id != "report"), key=place)


def _outdated_undone(stages: Sequence[Stage]) -> list[Stage]:
    """Returns the stages, those undone whose inputs within the run are no result that is there."""
    current = list(stages)
    while True:
        results = {stage.manifest["content_sha"] for stage in current if stage.manifest}
        checked = [
            Stage(stage.id, stage.folder, None, _OUTDATED) if _lacks(stage, results) else stage
            for stage in current
        ]
        if checked == current:
            return current
        current = checked


def _lacks(stage: Stage, results: Collection[str]) -> bool:
    if not stage.manifest or not tells_inputs(stage.folder):
        return False
    inputs, outside = stage.manifest["inputs"], input_names(stage.folder)
    return any(sha not in results for name, sha in inputs.items() if name not in outside)


def _without_removed(stages: Sequence[Stage]) -> list[Stage]:
    report = next((s.manifest for s in stages if s.id == "report" and s.manifest), None)
    if report is None:
        return list(stages)
    shown, written = {"report", *report["inputs"]}, report["finished"]
    return [
        stage
        for stage in stages
        if stage.id in shown or not stage.manifest or stage.manifest["finished"] >= written
    ]


def _in_first_round(name: str) -> tuple[str, int]:
    """Returns what a stage is called in the first round, and its own round."""
    found = re.fullmatch(r"(.+)\.r(\d+)", name)
    if not found:
        return name, 1
    twin = f"{found[1]}.r1"
    return (twin if twin in _ORDER else found[1]), int(found[2])


def rows_of(table: Path) -> Iterator[Row]:
    """Yields a table's rows; a table that is not there has none."""
    if shard_paths(table):
        yield from read_shards(table)


def find_rows(table: Path, column: str, wanted: set[str]) -> dict[str, Row]:
    """Returns the rows of a table whose column holds one of the wanted values."""
    return {row[column]: row for row in rows_of(table) if row[column] in wanted}
