"""Renders the report's page: one self-contained HTML file, all of it escaped but our own markup."""

from __future__ import annotations

import importlib.resources
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import jinja2
from markupsafe import Markup

from align.lineage import checkpoint_name
from align.report import plots, words
from align.report.collect import Curve, RunView
from align.report.evaluations import benchmark_names, comparisons, control_comparisons
from align.report.stages import Stage

_MOST_TEXT = 3000
_MOST_SKIPS = 12
_MOST_OF_A_KIND = 12
_HIDDEN_METRICS = frozenset({"loss", "lr", "tokens"})
_LONG_DETAILS = frozenset({"curve", "start", "end", "skipped", "scores", "held_out", "samples"})


@dataclass(frozen=True)
class Figure:
    """A plot, what it is called, and the names and classes of what is drawn in it."""

    title: str
    plot: Markup
    keys: Sequence[tuple[str, str]] = ()


def page(view: RunView) -> str:
    """Returns the whole page."""
    template = environment().from_string(package_text("page.html.j2"))
    names = benchmark_names(view.evaluations)
    compared = comparisons(view.evaluations)
    return template.render(
        view=view,
        style=Markup(package_text("page.css")),
        cautions=words.cautions(view),
        benchmarks=names,
        checkpoints=_checkpoints(view),
        compared=compared,
        sentences={c.benchmark: words.finding(c) for c in compared},
        controlled=[words.finding(c) for c in control_comparisons(view.evaluations)],
        points=words.points,
        scores=[_score_figure(view, name) for name in names],
        outcomes=_outcome_figures(view),
        outcome_groups=_outcome_groups(view),
        outcome_columns=_outcome_columns(view),
        losses=[figure for curve in view.curves for figure in _loss_figures(curve)],
        preference=[figure for curve in view.curves for figure in _dpo_figures(curve)],
        trained=[stage for stage in view.stages if stage.done and _trains(stage)],
        judge_figure=_judge_figure(view),
        pairs=view.done("pair."),
        fim=view.stage("fim"),
        infilling=[
            (
                name,
                [
                    (e.checkpoint, e.benchmarks[name])
                    for e in view.evaluations
                    if name in e.benchmarks
                ],
            )
            for name in names
            if words.is_infilling(name)
        ],
        boundaries=words.BOUNDARIES,
        data=view.stage("data"),
        skips=_skips(view),
        times=_time_figure(view),
        plain=_plain,
        lists=_lists,
        versions=_versions(view),
        seeds=sorted({str(s.manifest["seed"]) for s in view.stages if s.manifest}),
        export=view.stage("export"),
        finished=max((s.manifest["finished"] for s in view.stages if s.manifest), default=""),
    )


def environment() -> jinja2.Environment:
    """Returns what renders the report's pages: everything is escaped, numbers are written alike."""
    made = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(
        percent=words.percent,
        interval=words.interval,
        duration=words.duration,
        short=words.short,
        when=words.when,
        bench=words.benchmark_title,
        infills=words.is_infilling,
        text=lambda value, most=_MOST_TEXT: words.visible(str(value or ""), most),
        pretty=lambda value: words.visible(
            json.dumps(value, indent=2, ensure_ascii=False), _MOST_TEXT
        ),
        number=_number,
    )
    return made


def package_text(name: str) -> str:
    """Returns a file of this package: a page's template, or the style of both."""
    return (importlib.resources.files("align.report") / name).read_text(encoding="utf-8")


def _trains(stage: Stage) -> bool:
    return stage.id.startswith(("sft.", "dpo."))


def _checkpoints(view: RunView) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns (checkpoint, its benchmarks); trained ones that were not evaluated have none."""
    rows: list[tuple[str, Mapping[str, Any]]] = [
        (evaluation.checkpoint, evaluation.benchmarks) for evaluation in view.evaluations
    ]
    known = {name for name, _ in rows}
    for stage in view.stages:
        name = checkpoint_name(stage.id)
        if stage.done and _trains(stage) and name not in known:
            rows.append((name, {}))
    return rows


def _score_figure(view: RunView, name: str) -> Figure:
    rows = [
        plots.Interval(e.checkpoint, b.score, b.low, b.high)
        for e in view.evaluations
        if (b := e.benchmarks.get(name)) is not None
    ]
    title = f"{words.benchmark_title(name)}: pass@1 with its 95% interval"
    return Figure(name, plots.intervals(rows, title))


def _outcome_groups(view: RunView) -> list[tuple[str, list[tuple[str, Mapping[str, int]]]]]:
    """Returns what can be compared: the training samples' verdicts, then each benchmark's."""
    groups = [("Samples for training", list(view.outcomes))]
    for name in benchmark_names(view.evaluations):
        rows = [
            (e.checkpoint, e.benchmarks[name].outcomes)
            for e in view.evaluations
            if name in e.benchmarks
        ]
        groups.append((words.benchmark_title(name), rows))
    filled = ((title, [row for row in rows if sum(row[1].values())]) for title, rows in groups)
    return [(title, rows) for title, rows in filled if rows]


def _outcome_columns(view: RunView) -> list[str]:
    seen = {name for name, count in view.all_outcomes().items() if count}
    known = [name for name in words.OUTCOMES if name in seen]
    return known + sorted(seen.difference(known))


def _outcome_figures(view: RunView) -> list[Figure]:
    columns = _outcome_columns(view)
    return [
        Figure(title, plots.stacked(rows, columns, f"{title}: outcomes"))
        for title, rows in _outcome_groups(view)
    ]


def _loss_figures(curve: Curve) -> list[Figure]:
    """Draws the loss of a training stage."""
    return [_curve_figure(curve, "loss", ["loss"])] if "loss" in curve.metrics else []


def _dpo_figures(curve: Curve) -> list[Figure]:
    """Draws what a preference stage measured beside its loss; chosen and rejected go together."""
    if not curve.stage.startswith("dpo."):
        return []
    rest = [name for name in curve.metrics if name not in _HIDDEN_METRICS]
    groups: dict[str, list[str]] = {}
    for name in rest:
        stem = name.removesuffix("chosen").removesuffix("rejected").strip("/_. ")
        groups.setdefault(stem or name, []).append(name)
    return [_curve_figure(curve, title, names) for title, names in groups.items()]


def _curve_figure(curve: Curve, title: str, names: Sequence[str]) -> Figure:
    series = [
        plots.Line(name, curve.metrics[name], _line_style(name, index))
        for index, name in enumerate(sorted(names))
    ]
    shown = f"{curve.stage} · {title.replace('_', ' ')}"
    if not plots.has_points(series):
        return Figure(shown, Markup("<p class='missing'>no finite value was logged</p>"))
    whole_axis = 1.0 if "accurac" in title else None
    low = 0.0 if whole_axis or "loss" in title or "margin" in title else None
    plot = plots.lines(series, shown, low=low, high=whole_axis)
    keys = [(line.name, line.style) for line in series] if len(series) > 1 else []
    return Figure(shown, plot, keys)


def _line_style(name: str, index: int) -> str:
    if name.endswith("chosen"):
        return "s0"
    return "s1" if name.endswith("rejected") else f"s{index % 3}"


def _judge_figure(view: RunView) -> Figure | None:
    if view.judging is None or not view.judging.scores:
        return None
    scores = view.judging.scores
    order = [name for name in words.OUTCOMES if name in scores]
    order += sorted(set(scores).difference(order))
    rows = [plots.Strip(name.replace("_", " "), scores[name], name) for name in order]
    return Figure("Scores", plots.strips(rows, "The judge's scores by outcome; the bar is a mean"))


def _time_figure(view: RunView) -> Figure:
    rows = [
        plots.Bar(stage.id, stage.seconds, words.duration(stage.seconds))
        for stage in view.stages
        if stage.done
    ]
    return Figure("Time", plots.bars(rows, "Time of each stage"))


def _skips(view: RunView) -> list[tuple[str, str, int, Sequence[Mapping[str, Any]]]]:
    """Returns (stage, kind, how many, the first ones) of what stages passed over."""
    found: list[tuple[str, str, int, Sequence[Mapping[str, Any]]]] = []
    for stage in view.stages:
        listed = sorted(stage.details.get("skipped") or [], key=lambda entry: str(entry["kind"]))
        for kind, entries in groupby(listed, key=lambda entry: str(entry["kind"])):
            first = list(entries)
            count = int(stage.counts.get(kind, len(first)))
            found.append((stage.id, kind, count, first[:_MOST_SKIPS]))
    return found


def _versions(view: RunView) -> Mapping[str, str]:
    """Returns each package's version; several where stages ran with several."""
    found: dict[str, dict[str, None]] = {}
    for stage in view.stages:
        for name, version in (stage.manifest or {}).get("versions", {}).items():
            found.setdefault(name, {})[str(version)] = None
    return {name: ", ".join(versions) for name, versions in found.items()}


def _plain(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the single numbers and words among a stage's details, named by their path."""
    found: list[tuple[str, str]] = []
    for name, value in details.items():
        if name in _LONG_DETAILS:
            continue
        if isinstance(value, Mapping):
            inner = _plain(value)
            found += [(f"{name} · {key}", shown) for key, shown in inner[:_MOST_OF_A_KIND]]
            if len(inner) > _MOST_OF_A_KIND:
                found.append((name, f"{len(inner) - _MOST_OF_A_KIND} more"))
        elif isinstance(value, str | int | float | bool):
            found.append((name, words.visible(_number(value), 200)))
    return [(name.replace("_", " "), value) for name, value in found]


def _lists(values: Any) -> str:
    return ", ".join(str(value) for value in values) if values else "none"


def _number(value: Any) -> str:
    """Returns a number as people write it; anything else as its text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"
