"""Plots as inline SVG, drawn in percent of their width so that text keeps its size on any screen.

Colours come from the page's style sheet by class, so that a plot follows the light or dark scheme.
Every plot has a title and a description for readers who don't see it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_LABEL = 25.0  # percent of the width that row labels take
_VALUE = 18.0  # percent that the figures at the right take
_ROW = 30  # pixels a row
_MOST_POINTS = 300
_MOST_DOTS = 400


@dataclass(frozen=True)
class Interval:
    """A share with its confidence interval, all from 0 to 1."""

    label: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """A curve: (step, value) in the order of the steps.

    Attributes:
        style: Class of its colour: `s0`, `s1`, ...
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "s0"


@dataclass(frozen=True)
class Bar:
    """A length with the text that says it."""

    label: str
    value: float
    text: str


@dataclass(frozen=True)
class Strip:
    """The values of one group, 0 to 1."""

    label: str
    values: Sequence[float]
    style: str


def intervals(rows: Sequence[Interval], title: str) -> Markup:
    """Draws a dot and its interval a row, on an axis from 0 to 100%; the dots are joined."""
    said = "; ".join(
        f"{row.label} {row.value:.1%}, interval {row.low:.1%} to {row.high:.1%}" for row in rows
    )
    height = _ROW * len(rows)
    parts = _axis([(tick / 4, f"{tick * 25}%") for tick in range(5)], height)
    middles = [_ROW * index + _ROW / 2 for index in range(len(rows))]
    for index in range(len(rows) - 1):
        parts.append(
            f'<line class="path" x1="{_at(rows[index].value)}" y1="{middles[index]}" '
            f'x2="{_at(rows[index + 1].value)}" y2="{middles[index + 1]}"/>'
        )
    for row, y in zip(rows, middles, strict=True):
        parts.append(_row_label(row.label, y))
        parts.append(
            f'<line class="range" x1="{_at(row.low)}" x2="{_at(row.high)}" y1="{y}" y2="{y}"/>'
            f'<circle class="dot" cx="{_at(row.value)}" cy="{y}" r="5"/>'
        )
        parts.append(_row_value(f"{row.value:.1%}", y))
    return _svg(title, said, height + 22, parts)


def stacked(
    rows: Sequence[tuple[str, Mapping[str, int]]], order: Sequence[str], title: str
) -> Markup:
    """Draws each row's counts as parts of one full bar, in the given order, and the row's total."""
    said, parts = [], []
    for index, (label, counts) in enumerate(rows):
        total = sum(counts.values())
        y = _ROW * index + _ROW / 2
        parts.append(_row_label(label, y))
        parts.append(_row_value(str(total), y))
        left = 0.0
        for name in order:
            count = counts.get(name, 0)
            if not count:
                continue
            share = count / total
            words = f"{name.replace('_', ' ')}: {count} of {total} ({share:.1%})"
            parts.append(
                f'<rect class="part o-{_slug(name)}" x="{_at(left)}" y="{y - 9}" '
                f'width="{_width(share)}" height="18"><title>{escape(f"{label}, {words}")}</title>'
                "</rect>"
            )
            left += share
        listed = ", ".join(f"{name} {counts[name]}" for name in order if counts.get(name))
        said.append(f"{label}: {listed or 'none'}")
    return _svg(title, "; ".join(said), _ROW * len(rows), parts)


def bars(rows: Sequence[Bar], title: str) -> Markup:
    """Draws one bar a row, the longest over the whole width."""
    longest = max((row.value for row in rows), default=0.0) or 1.0
    parts = []
    for index, row in enumerate(rows):
        y = 24 * index + 12
        parts.append(_row_label(row.label, y))
        parts.append(
            f'<rect class="bar" x="{_at(0)}" y="{y - 6}" width="{_width(row.value / longest)}" '
            'height="12"/>'
        )
        parts.append(_row_value(row.text, y))
    said = "; ".join(f"{row.label} {row.text}" for row in rows)
    return _svg(title, said, 24 * len(rows), parts)


def strips(rows: Sequence[Strip], title: str) -> Markup:
    """Draws every value as a dot, a row a group, and the group's mean as a bar across it.

    A group of very many values is thinned evenly; its mean is that of all of them.
    """
    height = 38 * len(rows)
    parts = _axis([(tick / 4, f"{tick / 4:g}") for tick in range(5)], height)
    said = []
    for index, row in enumerate(rows):
        y = 38 * index + 19
        mean = sum(row.values) / len(row.values)
        parts.append(_row_label(row.label, y))
        step = max(1, len(row.values) // _MOST_DOTS)
        for place, value in enumerate(row.values[::step]):
            offset = (place * 0.618034 % 1 - 0.5) * 20  # spread evenly, the same every time
            parts.append(
                f'<circle class="speck o-{_slug(row.style)}" cx="{_at(value)}" '
                f'cy="{y + offset:.1f}" r="3"/>'
            )
        parts.append(
            f'<line class="mean" x1="{_at(mean)}" x2="{_at(mean)}" y1="{y - 14}" y2="{y + 14}"/>'
        )
        parts.append(_row_value(f"{mean:.2f}", y))
        said.append(f"{row.label}: mean {mean:.2f} of {len(row.values)}")
    return _svg(title, "; ".join(said), height + 22, parts)


def lines(
    series: Sequence[Line], title: str, *, low: float | None = None, high: float | None = None
) -> Markup:
    """Draws curves over steps; a long, noisy curve is drawn faintly below its moving mean.

    Args:
        series: The curves; at least one has a point.
        title: What they are.
        low: The axis reaches down to this at least.
        high: The axis reaches up to this at least.
    """
    finite = [
        (line, [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y)])
        for line in series
    ]
    drawn = [(line, points) for line, points in finite if points]
    ys = [y for _, points in drawn for _, y in points]
    xs = [x for _, points in drawn for x, _ in points]
    ticks = _ticks(*_widened(ys, low, high))
    bottom, top = ticks[0], ticks[-1]
    first, last = min(xs), max(xs)
    height = 150
    parts, labels = [], []
    for tick in ticks:
        y = height - (tick - bottom) / (top - bottom) * (height - 16)
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        labels.append(f'<text class="tick" x="0" y="{y - 3:.1f}">{_number(tick)}</text>')
    parts.append(
        f'<svg y="16" width="100%" height="{height - 16}" viewBox="0 0 100 100" '
        'preserveAspectRatio="none" overflow="visible">'
    )
    said = []
    for line, points in drawn:
        coarse = _thinned(points)

        def path(of: Sequence[tuple[float, float]]) -> str:
            return " ".join(
                f"{(x - first) / ((last - first) or 1) * 100:.2f},"
                f"{100 - (y - bottom) / (top - bottom) * 100:.2f}"
                for x, y in of
            )

        smooth = _moving_mean(coarse)
        faint = " faint" if smooth else ""
        parts.append(f'<polyline class="line {line.style}{faint}" points="{path(coarse)}"/>')
        if smooth:
            parts.append(f'<polyline class="line {line.style}" points="{path(smooth)}"/>')
        said.append(
            f"{line.name} goes from {_number(points[0][1])} at step {_number(points[0][0])} "
            f"to {_number(points[-1][1])} at step {_number(points[-1][0])}"
        )
    parts += ["</svg>", *labels]
    parts.append(f'<text class="tick" x="0" y="{height + 16}">step {_number(first)}</text>')
    parts.append(
        f'<text class="tick" x="100%" y="{height + 16}" text-anchor="end">{_number(last)}</text>'
    )
    return _svg(title, "; ".join(said), height + 20, parts)


def has_points(series: Sequence[Line]) -> bool:
    """Says whether there is anything to draw."""
    return any(math.isfinite(x) and math.isfinite(y) for line in series for x, y in line.points)


def _svg(title: str, description: str, height: float, parts: Sequence[str]) -> Markup:
    name = hashlib.sha256(f"{title}\0{description}".encode()).hexdigest()[:10]
    return Markup(
        f'<svg class="plot" role="img" width="100%" height="{height:g}" '
        f'aria-labelledby="t{name} d{name}"><title id="t{name}">{escape(title)}</title>'
        f'<desc id="d{name}">{escape(description)}</desc>{"".join(parts)}</svg>'
    )


def _at(share: float) -> str:
    """Returns the x of a share of the axis, as a percentage of the whole width."""
    return f"{_LABEL + min(max(share, 0.0), 1.0) * (100 - _LABEL - _VALUE):.2f}%"


def _width(share: float) -> str:
    return f"{share * (100 - _LABEL - _VALUE):.2f}%"


def _row_label(text: str, y: float) -> str:
    return f'<text class="label" x="0" y="{y + 4:g}">{escape(text)}</text>'


def _row_value(text: str, y: float) -> str:
    return f'<text class="value" x="100%" y="{y + 4:g}" text-anchor="end">{escape(text)}</text>'


def _axis(ticks: Sequence[tuple[float, str]], height: float) -> list[str]:
    return [
        f'<line class="grid" x1="{_at(share)}" x2="{_at(share)}" y1="0" y2="{height}"/>'
        f'<text class="tick" x="{_at(share)}" y="{height + 16}" text-anchor="middle">'
        f"{escape(text)}</text>"
        for share, text in ticks
    ]


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "other"


def _widened(values: Sequence[float], low: float | None, high: float | None) -> tuple[float, float]:
    bottom = min(values) if low is None else min(*values, low)
    top = max(values) if high is None else max(*values, high)
    if top - bottom < 1e-9:
        room = abs(top) * 0.1 or 0.1
        return bottom - room, top + room
    return bottom, top


def _ticks(bottom: float, top: float) -> list[float]:
    """Returns round numbers that enclose the range, three to six of them."""
    raw = (top - bottom) / 3
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(bottom / step + 1e-9), math.ceil(top / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _number(value: float) -> str:
    """Returns at most four significant digits, without a trailing zero or an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}" if value else "0"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(digits, 8)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "\N{MINUS SIGN}")


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns at most `_MOST_POINTS` points: the means of equal stretches."""
    size = math.ceil(len(points) / _MOST_POINTS)
    return [_mean(points[start : start + size]) for start in range(0, len(points), size)]


def _moving_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the means over a tenth of the curve, or nothing where the curve is short."""
    window = len(points) // 10
    if window < 3:
        return []
    half = window // 2
    return [
        (x, _mean(points[max(0, index - half) : index + half + 1])[1])
        for index, (x, _) in enumerate(points)
    ]


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
