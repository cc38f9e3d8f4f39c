"""The evaluations of a run: what each checkpoint scored, and what one won or lost on another."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.artifacts import read_shards, shard_paths
from align.errors import ArtifactError
from align.evaluation.results import solved_by_problem
from align.evaluation.scores import compare_rates, source_of
from align.lineage import REPEATED

#: The checkpoint that a run begins with.
START = "start"
CHECKPOINTS = (START, "coarse", "fine", "fim.tokens", "mixed", "sft_on_chosen", "dpo")
#: The arm beside dpo that shows what the chosen answers alone do.
CONTROL = "sft_on_chosen"

#: What names the checkpoint among the settings of a result.
_OF_THE_CHECKPOINT = ("model", "weights_sha", "adapter_sha")


@dataclass(frozen=True)
class Benchmark:
    """What one checkpoint scored on one benchmark.

    Attributes:
        problems: How many were asked.
        score: pass@1: mean over the problems of the share of answers that solve them.
        low: Lower end of the score's 95% interval.
        high: Upper end.
        stop_rate: Share of the answers that ended by themselves; None where it was not measured.
        outcomes: Answers by outcome.
        solved: Share of the answers to each problem that solved it, by its id.
        settings: What the score was measured with, the checkpoint aside.
        boundaries: Of infilling, shares of the answers by what stands at the gap's boundaries.
        boundary_intervals: Their 95% intervals.
    """

    name: str
    problems: int
    score: float
    low: float
    high: float
    stop_rate: float | None
    outcomes: Mapping[str, int]
    solved: Mapping[str, float]
    settings: Mapping[str, Any]
    boundaries: Mapping[str, float] = field(default_factory=dict)
    boundary_intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What one checkpoint scored.

    Attributes:
        places: Verdicts by (engine, isolation, image).
    """

    checkpoint: str
    benchmarks: Mapping[str, Benchmark]
    places: Mapping[tuple[str, str, str], int]


@dataclass(frozen=True)
class Comparison:
    """One benchmark, two checkpoints, problem by problem.

    Attributes:
        won: Problems that the later one solved, or solved more often; None where they share none.
        lost: Problems that the earlier one did.
        different: Settings in which the two measurements differ.
        interval: Of the change, 95%, paired by problem; None where the two share no problem.
        p: Two-sided p-value of the exact sign test on sources (McNemar's exact test).
        of_sources: What that test counts, where it is not the problems won and lost.
        noise: The change, as a share of the problems, that chance alone exceeds once in twenty
            times; None where nothing says how the problems vary.
    """

    benchmark: str
    first: str
    last: str
    before: Benchmark
    after: Benchmark
    won: int | None
    lost: int | None
    different: Sequence[str]
    interval: tuple[float, float] | None
    p: float | None
    of_sources: str
    noise: float | None

    @property
    def change(self) -> float:
        """The difference of the scores, as a share."""
        return self.after.score - self.before.score

    @property
    def overlap(self) -> bool:
        """Whether the two 95% intervals overlap."""
        return self.before.low <= self.after.high and self.after.low <= self.before.high


def read_evaluations(folders: Mapping[str, Path]) -> list[Evaluation]:
    """Reads evaluations that are done: one a checkpoint, in the order in which a run makes them.

    Benchmarks that were measured by several answers stand beside those measured once, as `NAME@10`.

    Args:
        folders: By the name of the stage, `eval.start` or `eval.repeated.start`.

    Raises:
        ArtifactError: A `result.json` is missing or not what an evaluation writes.
    """
    found: dict[str, Evaluation] = {}
    for stage in sorted(folders, key=lambda name: REPEATED in name):
        read = read_evaluation(checkpoint_of(stage), folders[stage])
        benchmarks = {result_name(stage, n, b.settings): b for n, b in read.benchmarks.items()}
        first = found.get(read.checkpoint, Evaluation(read.checkpoint, {}, {}))
        places = Counter(first.places) + Counter(read.places)
        found[read.checkpoint] = Evaluation(
            read.checkpoint, {**first.benchmarks, **benchmarks}, places
        )
    return sorted(found.values(), key=lambda evaluation: checkpoint_place(evaluation.checkpoint))


def checkpoint_of(stage: str) -> str:
    """Returns the checkpoint that an evaluation's stage measured."""
    return stage.removeprefix("eval.").removeprefix(REPEATED)


def result_name(stage: str, benchmark: str, settings: Mapping[str, Any]) -> str:
    """Returns what a benchmark is called among all that a checkpoint was measured by."""
    return f"{benchmark}@{settings['samples']}" if REPEATED in stage else benchmark


def read_evaluation(checkpoint: str, folder: Path) -> Evaluation:
    """Reads the folder of one evaluation that is done.

    Raises:
        ArtifactError: Its `result.json` is missing or not what an evaluation writes.
    """
    path = folder / "result.json"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        benchmarks = {n: _benchmark(n, plain) for n, plain in result["benchmarks"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path} can't be read as an evaluation's result ({type(error).__name__}: {error}); "
            f"delete {folder} and run again"
        ) from error
    places: Counter[tuple[str, str, str]] = Counter()
    if shard_paths(folder / "verdicts"):
        for row in read_shards(folder / "verdicts"):
            places[(str(row["engine"]), str(row["isolation"]), str(row["image"]))] += 1
    return Evaluation(checkpoint, benchmarks, places)


def _benchmark(name: str, plain: Mapping[str, Any]) -> Benchmark:
    low, high = plain["interval"]
    return Benchmark(
        name=name,
        problems=int(plain["n"]),
        score=float(plain["pass@1"]),
        low=float(low),
        high=float(high),
        stop_rate=plain.get("stop_rate"),
        outcomes=dict(plain["outcomes"]),
        solved=solved_by_problem([plain]),
        settings={k: v for k, v in plain["settings"].items() if k not in _OF_THE_CHECKPOINT},
        boundaries=plain.get("boundaries", {}),
        boundary_intervals=plain.get("boundary_intervals", {}),
    )


def checkpoint_place(checkpoint: str) -> tuple[int, int, str]:
    """Returns what sorts checkpoints into the order in which a run makes them."""
    name, _, turn = checkpoint.partition(".r")
    known = CHECKPOINTS.index(name) if name in CHECKPOINTS else len(CHECKPOINTS)
    return (int(turn) if turn.isdigit() else 1), known, checkpoint


def benchmark_names(evaluations: Sequence[Evaluation]) -> list[str]:
    """Returns the names of all benchmarks, in the order in which they appear."""
    return list(dict.fromkeys(name for e in evaluations for name in e.benchmarks))


def comparisons(evaluations: Sequence[Evaluation]) -> list[Comparison]:
    """Compares the first and the last checkpoint that ran each benchmark."""
    found = []
    for name in benchmark_names(evaluations):
        ran = [e for e in evaluations if name in e.benchmarks]
        if len(ran) > 1:
            found.append(_compare(name, ran[0], ran[-1]))
    return found


def control_comparisons(evaluations: Sequence[Evaluation]) -> list[Comparison]:
    """Compares the control with dpo, in each round in which both were evaluated."""
    by_name = {evaluation.checkpoint: evaluation for evaluation in evaluations}
    found = []
    for control, before in by_name.items():
        name, _, turn = control.partition(".")
        after = by_name.get(f"dpo.{turn}" if turn else "dpo")
        if name == CONTROL and after is not None:
            shared = [each for each in before.benchmarks if each in after.benchmarks]
            found += [_compare(each, before, after) for each in shared]
    return found


def _compare(name: str, first: Evaluation, last: Evaluation) -> Comparison:
    before, after = first.benchmarks[name], last.benchmarks[name]
    won = lost = p = interval = None
    of_sources = ""
    squares = 0.0
    shared = before.solved.keys() & after.solved.keys()
    if shared:
        paired = compare_rates(before.solved, after.solved)
        won, lost = len(paired.wins), len(paired.losses)
        p, interval, of_sources = paired.p_value, paired.interval, paired.of_sources
        gains: defaultdict[str, float] = defaultdict(float)
        for each in shared:
            gains[source_of(each)] += after.solved[each] - before.solved[each]
        squares = sum(gain**2 for gain in gains.values())
    different = [
        key
        for key in sorted(before.settings.keys() | after.settings.keys())
        if before.settings.get(key) != after.settings.get(key)
    ]
    noise = _noise(before, after, len(shared), squares)
    ends = first.checkpoint, last.checkpoint
    return Comparison(
        name, *ends, before, after, won, lost, different, interval, p, of_sources, noise
    )


def _noise(before: Benchmark, after: Benchmark, shared: int, squares: float) -> float | None:
    """Returns 1.96 standard errors of the change where the truth is that nothing changed.

    Paired, the change is the mean of n differences, of variance (sum of their squares) / n^2, where
    the differences of problems of one source are one: with one answer to a problem, and each of a
    source of its own, that sum is how many changed sides. Where no problem is shared, the two
    scores are taken as independent, which is more.
    """
    if shared:
        return 1.96 * math.sqrt(squares) / shared if squares else None
    if not before.problems or not after.problems:
        return None
    pooled = (before.score + after.score) / 2
    return 1.96 * math.sqrt(pooled * (1 - pooled) * (1 / before.problems + 1 / after.problems))
