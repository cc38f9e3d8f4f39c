"""The page of several seeds, and the same in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from markupsafe import Markup
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from align.artifacts import write_atomic
from align.report import plots, words
from align.report.html import environment, package_text
from align.report.seeds import SeedsView, Versus


def write_seeds_page(view: SeedsView, target: Path) -> Path:
    """Writes the report of several seeds as one HTML file.

    Returns:
        The file.

    Raises:
        ArtifactError: The disk is full.
    """
    template = environment().from_string(package_text("seeds.html.j2"))
    page = template.render(
        view=view,
        title=f"{view.title}, {len(view.runs)} seeds",
        style=Markup(package_text("page.css")),
        figures=_figures(view),
        versus=_by_ends(view),
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
    for (first, last), rows in _by_ends(view):
        console.print(_versus(first, last, rows))


def _scores(view: SeedsView) -> Table:
    seeds = ", ".join(str(run.seed) for run in view.runs)
    table = Table(
        "benchmark",
        Column("checkpoint", no_wrap=True),
        title=f"pass@1, mean of seeds {seeds}, with its 95% interval",
        title_justify="left",
    )
    for name in ("pass@1", "by seed", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in view.benchmarks:
        title = words.benchmark_title(name)
        for checkpoint, scored in view.scores.items():
            if score := scored.get(name):
                table.add_row(
                    title,
                    checkpoint,
                    f"{words.percent(score.score)} ({words.interval(score)})",
                    ", ".join(f"{100 * value:.1f}" for value in score.by_run),
                    f"{score.tokens:.0f}",
                )
                title = ""
        table.add_section()
    return table


def _versus(first: str, last: str, rows: Iterable[Versus]) -> Table:
    table = Table("benchmark", title=f"{first} to {last}", title_justify="left")
    for name in ("problems", "change", "won, lost", "p"):
        table.add_column(name, justify="right", no_wrap=name == "change")
    for versus in rows:
        compared = versus.compared
        low, high = map(words.points, compared.interval)
        table.add_row(
            words.benchmark_title(versus.benchmark),
            str(compared.n),
            f"{words.points(compared.difference)} ({low} to {high})",
            f"{len(compared.wins)}, {len(compared.losses)}",
            f"{words.p_value(compared.p_value)} {compared.of_sources}".rstrip(),
        )
    return table


def _by_ends(view: SeedsView) -> list[tuple[tuple[str, str], list[Versus]]]:
    pairs = groupby(view.versus, key=lambda versus: (versus.first, versus.last))
    return [(ends, list(rows)) for ends, rows in pairs]
