"""The report in the terminal: the scores before and after, the stages, and where things are."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from align.report import words
from align.report.collect import RunView, collect
from align.report.evaluations import benchmark_names, comparisons, control_comparisons
from align.report.sources import sources_table
from align.report.stages import Stage

_MOST_COUNTS = 6


def print_report(run_folder: Path) -> None:
    """Prints the tables of a run, whole or half done, on stdout.

    Raises:
        InputError: The folder is no run's, or a table in it can't be read.
        ArtifactError: A manifest or an evaluation's result can't be read.
    """
    view = collect(run_folder)
    console = Console(highlight=False, markup=False)
    for heading, sentence in words.cautions(view):
        console.print(Text(f"{heading}. {words.visible(sentence, 600)}", style="yellow"))
    if view.evaluations:
        console.print(_scores(view))
        for comparison in comparisons(view.evaluations):
            console.print(Text(words.finding(comparison), style="dim"))
        for comparison in control_comparisons(view.evaluations):
            console.print(Text(words.finding(comparison), style="dim"))
    else:
        console.print("No checkpoint was evaluated yet.")
    console.print(_stages(view))
    data = view.stage("data")
    if data and data.details.get("sources"):
        console.print(sources_table(data.details["sources"]))
    for stage in view.done("pair."):
        console.print(_pairs(stage))
    if not view.done("pair."):
        console.print("No preference pairs yet.")
    if view.absent:
        console.print(
            Text("Not there (not reached, or not in the recipe): " + ", ".join(view.absent), "dim")
        )
    export = view.stage("export")
    model = str(export.folder / "model") if export else "not exported yet"
    page = run_folder / "report.html"
    report = str(page) if page.exists() else f"not written yet: align report {run_folder}"
    # Paths are printed unbroken, so that they can be copied.
    console.print(Text(f"model:  {model}"), soft_wrap=True)
    console.print(Text(f"report: {report}"), soft_wrap=True)


def _scores(view: RunView) -> Table:
    table = Table(
        "benchmark", "checkpoint", title="pass@1 with its 95% interval", title_justify="left"
    )
    for name in ("pass@1", "stopped"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in benchmark_names(view.evaluations):
        produced = ", as produced" if words.is_infilling(name) else ""
        title = words.benchmark_title(name) + produced
        for evaluation in view.evaluations:
            if benchmark := evaluation.benchmarks.get(name):
                score = f"{words.percent(benchmark.score)} ({words.interval(benchmark)})"
                stopped = benchmark.stop_rate
                ended = "not measured" if stopped is None else words.percent(stopped)
                table.add_row(title, evaluation.checkpoint, score, ended)
                title = ""
        table.add_section()
    return table


def _stages(view: RunView) -> Table:
    table = Table("stage", title=f"{words.duration(view.seconds)} in all", title_justify="left")
    table.add_column("time", justify="right")
    table.add_column("counts")
    for stage in view.stages:
        table.add_row(stage.id, *_stage_cells(stage))
    return table


def _stage_cells(stage: Stage) -> tuple[str | Text, str | Text]:
    if not stage.done:
        why = words.visible(stage.failure, 200) if stage.failure else ""
        return Text("not done", style="yellow"), Text(why, style="yellow")
    shown = [f"{name.replace('_', ' ')} {count:,}" for name, count in stage.counts.items()]
    more = f", and {len(shown) - _MOST_COUNTS} more" if len(shown) > _MOST_COUNTS else ""
    return words.duration(stage.seconds), ", ".join(shown[:_MOST_COUNTS]) + more


def _pairs(stage: Stage) -> Text:
    details = stage.details
    rules = ", ".join(f"{name} {count}" for name, count in details["by_rule"].items())
    prompts = ", ".join(f"{count} {name}" for name, count in details["prompts"].items())
    missing = [
        f"\n  no pair by {rule}: {words.visible(reason)}"
        for rule, reason in details.get("without_pairs", {}).items()
    ]
    return Text(
        f"{stage.counts['pairs']} preference pairs ({rules}) from {stage.counts['prompts']} "
        f"prompts ({prompts})" + "".join(missing)
    )
