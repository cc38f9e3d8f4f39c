"""Runs of one recipe with several seeds: what each checkpoint scores on average, and beats."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from align.errors import InputError
from align.evaluation.results import compare_results, read_result, solved_by_problem
from align.evaluation.scores import Comparison, bootstrap_interval
from align.lineage import REPEATED
from align.report import words
from align.report.evaluations import (
    CONTROL,
    START,
    checkpoint_of,
    checkpoint_place,
    result_name,
)
from align.report.stages import Stage, events_of, stages_of

TOGETHER = "together"
"""Name of the comparison over the problems of all benchmarks but the infilling ones."""


@dataclass(frozen=True)
class SeedRun:
    """One run.

    Attributes:
        stages: Those that are done, by id.
        results: `result.json` of each evaluated checkpoint.
    """

    name: str
    seed: int
    stages: Mapping[str, Stage]
    results: Mapping[str, Mapping[str, Any]]

    @property
    def seconds(self) -> float:
        """Time of all stages."""
        return sum(stage.seconds for stage in self.stages.values())

    def count(self, kind: str, name: str) -> int:
        """Returns the sum of a count over the stages of one kind (`sample.`, `pair.`)."""
        found = (stage for key, stage in self.stages.items() if key.startswith(kind))
        return sum(int(stage.counts.get(name, 0)) for stage in found)


@dataclass(frozen=True)
class Score:
    """One checkpoint on one benchmark, over all runs.

    Attributes:
        score: Mean of the runs' pass@1.
        low: Lower end of its 95% interval, by bootstrap over the problems' sources.
        high: Upper end.
        by_run: pass@1 of each run that measured it.
        stop_rate: Share of the answers that ended by themselves.
        tokens: Of an answer, on average.
        boundaries: Of infilling, shares of the answers by what stands at the gap's boundaries.
    """

    problems: int
    score: float
    low: float
    high: float
    by_run: Sequence[float]
    stop_rate: float
    tokens: float
    boundaries: Mapping[str, float]


@dataclass(frozen=True)
class Versus:
    """Two checkpoints on one benchmark, or on several together, over all runs."""

    benchmark: str
    first: str
    last: str
    compared: Comparison


@dataclass(frozen=True)
class SeedsView:
    """What the runs show together.

    Attributes:
        scores: By checkpoint, in the order of training, and benchmark.
        versus: Each checkpoint against the start, then dpo against its control.
        cautions: What a reader must know first.
    """

    title: str
    runs: Sequence[SeedRun]
    benchmarks: Sequence[str]
    scores: Mapping[str, Mapping[str, Score]]
    versus: Sequence[Versus]
    cautions: Sequence[str]


def collect_seeds(folders: Sequence[Path]) -> SeedsView:
    """Reads runs of one recipe.

    What counts of a checkpoint are the benchmarks that every run measured it by. The start is one
    model for all runs: of it everything counts, from those that measured it.

    Raises:
        InputError: A folder is no run's, two have one seed, the runs have no evaluation in common,
            or evaluated it under different settings.
        ArtifactError: A manifest or an evaluation's result can't be read.
    """
    runs = sorted((_read(folder) for folder in folders), key=lambda run: run.seed)
    for one, other in pairwise(runs):
        if one.seed == other.seed:
            raise InputError(
                f"{one.name} and {other.name} both have seed {one.seed}: give runs of one recipe "
                "with different seeds"
            )
    checkpoints = sorted(
        set.intersection(*(set(run.results) for run in runs)), key=checkpoint_place
    )
    measured = {checkpoint: _shared(runs, checkpoint) for checkpoint in checkpoints}
    benchmarks = list(dict.fromkeys(name for each in measured.values() for name in each))
    if not benchmarks:
        names = ", ".join(run.name for run in runs)
        raise InputError(f"{names} have no evaluation in common")
    report = runs[0].stages.get("report")
    return SeedsView(
        str(report.settings["title"]) if report else runs[0].name,
        runs,
        benchmarks,
        {c: {b: _score(runs, c, b) for b in names} for c, names in measured.items()},
        _versus(runs, measured),
        _cautions(runs, checkpoints),
    )


def _read(folder: Path) -> SeedRun:
    stages = stages_of(folder, list(events_of(folder / "log.jsonl"))) if folder.is_dir() else []
    done = {stage.id: stage for stage in stages if stage.done}
    seeds = {int(stage.manifest["seed"]) for stage in done.values() if stage.manifest}
    if len(seeds) != 1:
        raise InputError(
            f"{folder} holds no stage of a run that is done; give the folders runs/NAME"
            if not seeds
            else f"{folder} holds stages of several seeds, {sorted(seeds)}: finish the run first"
        )
    results: dict[str, dict[str, Any]] = defaultdict(lambda: {"benchmarks": {}})
    for name, stage in sorted(done.items(), key=lambda item: REPEATED in item[0]):
        if name.startswith("eval."):
            benchmarks = read_result(stage.folder)["benchmarks"]
            results[checkpoint_of(name)]["benchmarks"] |= {
                result_name(name, key, each["settings"]): each for key, each in benchmarks.items()
            }
    return SeedRun(folder.resolve().name, seeds.pop(), done, results)


def _shared(runs: Sequence[SeedRun], checkpoint: str) -> list[str]:
    """Returns the benchmarks that a checkpoint counts by."""
    measured = [run.results[checkpoint]["benchmarks"] for run in runs]
    names = dict.fromkeys(name for benchmarks in measured for name in benchmarks)
    models = {each["settings"].get("weights_sha") for found in measured for each in found.values()}
    if checkpoint == START and len(models) == 1 and None not in models:
        return list(names)
    return [name for name in names if all(name in benchmarks for benchmarks in measured)]


def _measuring(runs: Sequence[SeedRun], checkpoint: str, names: Sequence[str]) -> list[SeedRun]:
    """Returns the runs that measured a checkpoint by all of the benchmarks."""
    return [
        run for run in runs if all(name in run.results[checkpoint]["benchmarks"] for name in names)
    ]


def _score(runs: Sequence[SeedRun], checkpoint: str, benchmark: str) -> Score:
    runs = _measuring(runs, checkpoint, [benchmark])
    found = [run.results[checkpoint]["benchmarks"][benchmark] for run in runs]
    solved = solved_by_problem(found)
    low, high = bootstrap_interval(solved)
    boundaries = {
        name: mean(each["boundaries"][name] for each in found)
        for name in found[0].get("boundaries", {})
    }
    return Score(
        problems=len(solved),
        score=mean(each["pass@1"] for each in found),
        low=low,
        high=high,
        by_run=[float(each["pass@1"]) for each in found],
        stop_rate=mean(each["stop_rate"] for each in found),
        tokens=mean(each["mean_tokens"] for each in found),
        boundaries=boundaries,
    )


def _groups(benchmarks: Sequence[str]) -> dict[str, list[str]]:
    """Returns what is compared, by name: each benchmark, and those for functions together."""
    groups = {name: [name] for name in benchmarks}
    for answers in dict.fromkeys(name.partition("@")[2] for name in benchmarks):
        functions = [
            name
            for name in benchmarks
            if name.partition("@")[2] == answers and not words.is_infilling(name)
        ]
        if len(functions) > 1:
            groups[f"{TOGETHER}@{answers}" if answers else TOGETHER] = functions
    return groups


def _versus(runs: Sequence[SeedRun], measured: Mapping[str, Sequence[str]]) -> list[Versus]:
    def against(first: str, last: str) -> list[Versus]:
        both = [name for name in measured[first] if name in measured[last]]
        found = []
        for group, names in _groups(both).items():
            before, after = (
                [run.results[end] for run in _measuring(runs, end, names)] for end in (first, last)
            )
            if before and after:  # each benchmark may have been measured by another run
                compared = compare_results(before, after, names)
                found.append(Versus(group, first, last, compared))
        return found

    found = []
    first, *others = measured
    for last in others:
        found += against(first, last)
    for control in others:
        name, _, turn = control.partition(".")
        last = f"dpo.{turn}" if turn else "dpo"
        if name == CONTROL and last in others:
            found += against(control, last)
    return found


def _cautions(runs: Sequence[SeedRun], checkpoints: Sequence[str]) -> list[str]:
    found = []
    first, *others = runs
    for run in others:
        shared = run.stages.keys() & first.stages.keys()
        different = sorted(
            name for name in shared if run.stages[name].settings != first.stages[name].settings
        )
        if different:
            found.append(
                f"{first.name} and {run.name} ran {', '.join(different)} with different settings: "
                "they are no seeds of one recipe"
            )
    for run in runs:
        only = sorted(set(run.results) - set(checkpoints))
        if only:
            found.append(f"{run.name} also evaluated {', '.join(only)}, which another run lacks")
    return found
