"""The page of several seeds, and the same in the terminal."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from align.artifacts import write_atomic
from align.report import plots, words
from align.report.html import environment, package_text
from align.report.seeds import SeedsView


def write_seeds_page(view: SeedsView, target: Path) -> Path:
    """Writes the report of several seeds as one HTML file.

    Returns:
        The file.

    Raises:
        ArtifactError: The disk is full.
    """
    template = environment().from_string(package_text("seeds.html.j2"))
    pairs = groupby(view.versus, key=lambda versus: (versus.first, versus.last))
    page = template.render(
        view=view,
        title=f"{view.title}, {len(view.runs)} seeds",
        style=Markup(package_text("page.css")),
        figures=_figures(view),
        versus=[(ends, list(rows)) for ends, rows in pairs],
        infilling=[name for name in view.benchmarks if words.is_infilling(name)],
        boundaries=words.BOUNDARIES,
        points=words.points,
        p_value=words.p_value,
    )
    write_atomic(target, page.encode("utf-8", "replace"))
    return target


def _figures(view: SeedsView) -> list[tuple[str, Markup]]:
    found = []
    for name in view.benchmarks:
        rows = [
            plots.Interval(checkpoint, scored[name].score, scored[name].low, scored[name].high)
            for checkpoint, scored in view.scores.items()
            if name in scored
        ]
        title = f"{words.benchmark_title(name)}: pass@1, mean of the seeds, and its 95% interval"
        found.append((title, plots.intervals(rows, title)))
    return found


def print_seeds(view: SeedsView) -> None:
    """Prints the tables of several seeds on stdout."""
    console = Console(highlight=False, markup=False)
    for sentence in view.cautions:
        console.print(Text(f"Compare with care. {words.visible(sentence, 600)}.", style="yellow"))
    console.print(_scores(view))
    console.print(_versus(view))


def _scores(view: SeedsView) -> Table:
    seeds = ", ".join(str(run.seed) for run in view.runs)
    table = Table(
        "checkpoint",
        title=f"pass@1, mean of seeds {seeds}, with its 95% interval",
        title_justify="left",
    )
    for name in view.benchmarks:
        table.add_column(words.benchmark_title(name), justify="right")
        table.add_column("tokens", justify="right")
    for checkpoint, scored in view.scores.items():
        cells = []
        for name in view.benchmarks:
            score = scored.get(name)
            if score is None:
                cells += ["not evaluated", ""]
                continue
            cells += [f"{words.percent(score.score)} ({words.interval(score)})"]
            cells += [f"{score.tokens:.0f}"]
        table.add_row(checkpoint, *cells)
    return table


def _versus(view: SeedsView) -> Table:
    table = Table("from", "to", "benchmark", title="Problem by problem", title_justify="left")
    for name in ("problems", "change", "95% interval", "won, lost", "p"):
        table.add_column(name, justify="right")
    for versus in view.versus:
        compared = versus.compared
        low, high = map(words.points, compared.interval)
        table.add_row(
            versus.first,
            versus.last,
            words.benchmark_title(versus.benchmark),
            str(compared.n),
            words.points(compared.difference),
            f"{low} to {high}",
            f"{len(compared.wins)}, {len(compared.losses)}",
            f"{words.p_value(compared.p_value)} {compared.of_sources}".rstrip(),
        )
    return table
