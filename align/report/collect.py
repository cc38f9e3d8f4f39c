"""Reads a run's folder into plain dataclasses; the page and the terminal only show them.

A run may be half done: what is not there is None or empty here, and shown as missing. A stage that
was begun but is not done counts as not there, because its tables are not whole.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from align.artifacts import Row
from align.errors import InputError
from align.report.evaluations import Evaluation, read_evaluations
from align.report.stages import STAGES, Stage, events_of, find_rows, rows_of, stages_of

_EXAMPLES = 3


@dataclass(frozen=True)
class Curve:
    """What one training stage measured, by name: points of (step, value)."""

    stage: str
    metrics: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Failure:
    """One answer that its tests refused, with all that shows why."""

    verdict: Row
    tests: Sequence[Mapping[str, Any]]
    sample: Row


@dataclass(frozen=True)
class Judging:
    """What the judge said.

    Attributes:
        judge: Name of the model.
        scores: Scores of readable judgements by the outcome of the sample.
        auroc: `value`, and where known `low`, `high`, `problems`; None where nothing compares.
        kin: Why the judge may favour the policy, in words; None where no sign of it was found.
    """

    judge: str
    rubric: str
    statuses: Mapping[str, int]
    scores: Mapping[str, Sequence[float]]
    auroc: Mapping[str, Any] | None
    kin: str | None


@dataclass(frozen=True)
class ExamplePair:
    """A preference pair, and the verdict of its rejected side."""

    pair: Row
    verdict: Row | None


@dataclass(frozen=True)
class RunView:
    """Everything the report shows of a run.

    Attributes:
        stages: In their order; those begun and not done too.
        absent: Stages of a full run that have no folder here.
        outcomes: (stage, counts) of the training samples' verdicts, in the order of the stages.
        isolation: Verdicts by isolation level.
        places: Verdicts by (engine, isolation, image).
        licences: (table, licence) to rows.
        warnings: What the run warned of, each once.
    """

    name: str
    folder: Path
    title: str
    stages: Sequence[Stage]
    absent: Sequence[str]
    evaluations: Sequence[Evaluation]
    outcomes: Sequence[tuple[str, Mapping[str, int]]]
    isolation: Mapping[str, int]
    places: Mapping[tuple[str, str, str], int]
    curves: Sequence[Curve]
    failure: Failure | None
    judging: Judging | None
    pairs: Sequence[ExamplePair]
    licences: Mapping[tuple[str, str], int]
    warnings: Sequence[str]

    def stage(self, name: str) -> Stage | None:
        """Returns a stage that is done, or None."""
        return next((s for s in self.stages if s.id == name and s.done), None)

    def done(self, prefix: str) -> list[Stage]:
        """Returns the stages of one kind that are done (`sft.`, `verify.`)."""
        return [s for s in self.stages if s.id.startswith(prefix) and s.done]

    def all_outcomes(self) -> Counter[str]:
        """Returns how often each outcome came, in training samples and evaluations."""
        total: Counter[str] = Counter()
        for _, counts in self.outcomes:
            total.update(counts)
        for evaluation in self.evaluations:
            for benchmark in evaluation.benchmarks.values():
                total.update(benchmark.outcomes)
        return total

    @property
    def seconds(self) -> float:
        """Time of all stages that are done."""
        return sum(stage.seconds for stage in self.stages)


def collect(
    folder: Path, *, title: str | None = None, only: Collection[str] | None = None
) -> RunView:
    """Reads a run's folder.

    Args:
        folder: `runs/<name>`.
        only: The stages of the run; what stages that its recipe has no more left there does not
            count. None: all that are there.
        title: The report's heading; by default what the report stage was given, or the run's name.

    Raises:
        InputError: The folder is no run's, or a table in it can't be read.
        ArtifactError: A manifest in it can't be read.
    """
    events = list(events_of(folder / "log.jsonl"))
    stages = [each for each in stages_of(folder, events) if only is None or each.id in only]
    if not stages:
        raise InputError(f"{folder} holds no stage of a run; give the folder runs/NAME")
    done = {stage.id: stage for stage in stages if stage.done}
    evaluations = read_evaluations(
        {name: stage.folder for name, stage in done.items() if name.startswith("eval.")}
    )
    outcomes: list[tuple[str, Mapping[str, int]]] = []
    places: Counter[tuple[str, str, str]] = Counter()
    for stage in done.values():
        if stage.id.startswith("verify."):
            counts: Counter[str] = Counter()
            for row in rows_of(stage.folder / "verdicts"):
                counts[row["outcome"]] += 1
                places[(str(row["engine"]), str(row["isolation"]), str(row["image"]))] += 1
            outcomes.append((stage.id, counts))
    for evaluation in evaluations:
        places.update(evaluation.places)
    isolation: Counter[str] = Counter()
    for (_, level, _), count in places.items():
        isolation[level] += count
    if title is None and (report := done.get("report")):
        title = str(report.settings["title"])
    present = {stage.id for stage in stages}
    return RunView(
        name=folder.resolve().name,
        folder=folder,
        title=title or f"Run {folder.resolve().name}",
        stages=stages,
        absent=[name for name in STAGES if name not in present and name != "report"],
        evaluations=evaluations,
        outcomes=outcomes,
        isolation=isolation,
        places=places,
        curves=[c for stage in done.values() if (c := _curve(stage)) is not None],
        failure=_failure(done),
        judging=_judging(done),
        pairs=_pairs(done),
        licences=_licences(done),
        warnings=list(
            dict.fromkeys(str(e["message"]) for e in events if e.get("event") == "warning")
        ),
    )


def _curve(stage: Stage) -> Curve | None:
    points = stage.details.get("curve")
    if not points:
        return None
    metrics: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for point in points:
        for name, value in point.items():
            if name != "step" and isinstance(value, int | float):
                metrics[name].append((float(point["step"]), float(value)))
    return Curve(stage.id, metrics)


def _failure(done: Mapping[str, Stage]) -> Failure | None:
    """Returns the plainest failing verdict: a wrong answer if there is one, the latest round's."""
    order = ("wrong_answer", "runtime_error", "time_limit", "compile_error")
    rounds = [name for stage in done if (name := stage.removeprefix("verify.")) != stage]
    for name in reversed(rounds):
        verify, sample = done.get(f"verify.{name}"), done.get(f"sample.{name}")
        if verify is None or sample is None:
            continue
        failing = (row for row in rows_of(verify.folder / "verdicts") if row["outcome"] in order)
        best = min(
            failing,
            key=lambda row: (order.index(row["outcome"]), -row["passed"], row["verdict_id"]),
            default=None,
        )
        if best is None:
            continue
        samples = find_rows(sample.folder / "samples", "sample_id", {best["sample_id"]})
        if samples:
            tests = json.loads(best["tests"] or "[]")
            return Failure(best, tests, samples[best["sample_id"]])
    return None


def _judging(done: Mapping[str, Stage]) -> Judging | None:
    # `judge.fine` looks only at what was not executed, and so says nothing of verdicts.
    stages = [s for s in done.values() if s.id.startswith("judge.") and s.id != "judge.fine"]
    stage = stages[-1] if stages else None
    if stage is None:
        return None
    verify = done.get(f"verify.{stage.id.partition('.')[2]}")
    outcomes: dict[str, str] = {}
    if verify is not None:
        outcomes = {r["sample_id"]: r["outcome"] for r in rows_of(verify.folder / "verdicts")}
    scores: dict[str, list[float]] = defaultdict(list)
    judge, rubric = "", ""
    statuses: Counter[str] = Counter()
    for row in rows_of(stage.folder / "judgements"):
        judge, rubric = str(row["judge"]), str(row["rubric"])
        statuses[row["status"]] += 1
        if row["score"] is not None:
            scores[outcomes.get(row["sample_id"], "not run")].append(row["score"])
    auroc = stage.details.get("auroc")
    if isinstance(auroc, int | float):
        auroc = {"value": float(auroc)}
    if not auroc or auroc.get("value") is None:
        auroc = None
    model = stage.settings.get("model")
    name = Path(str(model)).name if model else judge
    return Judging(name, rubric, statuses, scores, auroc, stage.details.get("kin"))


def _pairs(done: Mapping[str, Stage]) -> list[ExamplePair]:
    """Returns a few pairs of the last round, always the same ones.

    One of each rule comes first, and each is of another task.
    """
    stages = [s for s in done.values() if s.id.startswith("pair.")]
    if not stages:
        return []
    stage = stages[-1]
    by_rule: dict[str, list[Row]] = defaultdict(list)
    tasks: set[str] = set()
    for row in islice(rows_of(stage.folder / "pairs"), 5000):
        of_rule = by_rule[row["rule"]]
        if row["task_id"] not in tasks and len(of_rule) < _EXAMPLES:
            tasks.add(row["task_id"])
            of_rule.append(row)
    chosen = [rows[0] for rows in by_rule.values() if rows]
    chosen += [row for rows in by_rule.values() for row in rows[1:]]
    chosen = chosen[:_EXAMPLES]
    verify = done.get(f"verify.{stage.id.partition('.')[2]}")
    verdicts: dict[str, Row] = {}
    if verify is not None:
        wanted = {row["rejected_verdict_id"] for row in chosen}
        verdicts = find_rows(verify.folder / "verdicts", "verdict_id", wanted)
    return [ExamplePair(row, verdicts.get(row["rejected_verdict_id"])) for row in chosen]


def _licences(done: Mapping[str, Stage]) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    tables = (
        ("data", "rows"),
        ("data", "tasks"),
        ("data", "held_out"),
        ("select.fine", "rows"),
        ("fim", "rows"),
    )
    for stage, table in tables:
        if stage in done:
            for row in rows_of(done[stage].folder / table):
                found[(f"{stage}/{table}", str(row["licence"] or "unknown"))] += 1
    return found
