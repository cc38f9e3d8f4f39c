"""The report of a run: what it measured, on one page and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from align.artifacts import canonical_json, sha256_text, write_atomic, write_json
from align.manifest import REPORT
from align.report.collect import collect
from align.report.evaluations import comparisons
from align.report.html import page
from align.settings import ReportSettings
from align.stage import Context, Output, Summary

__all__ = ["run", "write_report"]


def run(
    settings: ReportSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Writes `report.html`, and `summary.json`, its scores; the run copies the page to its folder.

    Args:
        settings: The report's title.
        inputs: The folder of every stage instance by its id.
        out: The stage's folder; the run's folder is its parent.
        context: The run around it.

    Raises:
        InputError: A table can't be read.
        ArtifactError: A manifest or an evaluation's result can't be read.
    """
    del context
    run_folder = out.path.parent
    view = collect(run_folder, title=settings.title, only=inputs.keys())
    scores = {
        evaluation.checkpoint: {
            name: {
                "pass@1": benchmark.score,
                "interval": [benchmark.low, benchmark.high],
                "n": benchmark.problems,
                "stop_rate": benchmark.stop_rate,
                **benchmark.boundaries,
            }
            for name, benchmark in evaluation.benchmarks.items()
        }
        for evaluation in view.evaluations
    }
    compared = {
        c.benchmark: {
            "first": c.first,
            "last": c.last,
            "change": c.change,
            "interval": c.interval,
            "won": c.won,
            "lost": c.lost,
            "p": c.p,
        }
        for c in comparisons(view.evaluations)
    }
    summary = {"scores": scores, "compared": compared}
    write_json(out.path / "summary.json", summary)
    text = page(view).encode("utf-8", "replace")
    write_atomic(out.path / REPORT, text)
    return Summary(
        content_sha=sha256_text(canonical_json(summary)),
        counts={"stages": len(inputs), "checkpoints": len(scores), "bytes": len(text)},
        details=summary,
    )


def write_report(run_folder: Path, target: Path) -> Path:
    """Writes the report of a run, whole or half done, as one HTML file.

    Args:
        run_folder: `runs/<name>`.
        target: The file.

    Returns:
        The file.

    Raises:
        InputError: The folder is no run's, or a table in it can't be read.
        ArtifactError: A manifest or an evaluation's result can't be read, or the disk is full.
    """
    write_atomic(target, page(collect(run_folder)).encode("utf-8", "replace"))
    return target
