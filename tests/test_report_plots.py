"""What a report draws stays inside its plot, and what it shows has no invisible mark."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align.report.plots import Interval, Line, intervals, lines
from align.report.words import visible


@pytest.mark.parametrize(
    "points",
    [
        [(1, 0.5)],
        [(1, 2.0), (2, 2.0)],
        [(1, float("nan")), (2, 1.0), (3, float("inf"))],
        [(step, 1e-9 * step) for step in range(5000)],
        [(1, -1e6), (2, 1e6)],
    ],
)
def test_any_curve_is_drawn_inside_its_plot(points: list[tuple[float, float]]) -> None:
    drawn = str(lines([Line("loss", points)], "a curve"))
    places = re.findall(r'points="([^"]*)"', drawn)
    numbers = [float(n) for place in places for n in re.split("[ ,]", place)]
    assert numbers
    assert all(-0.01 <= number <= 100.01 for number in numbers)
    assert len(drawn) < 30_000


def test_an_interval_stands_where_its_numbers_say() -> None:
    drawn = str(intervals([Interval("a", 0.5, 0.25, 0.75)], "shares"))
    dot = re.search(r'<circle class="dot" cx="([\d.]+)%"', drawn)
    ends = re.search(r'<line class="range" x1="([\d.]+)%" x2="([\d.]+)%"', drawn)
    assert dot and ends
    low, high = float(ends[1]), float(ends[2])
    assert float(dot[1]) == pytest.approx((low + high) / 2, abs=0.01)


@given(st.text(max_size=300), st.integers(1, 100))
def test_shown_text_holds_no_invisible_mark_and_keeps_the_rest(text: str, most: int) -> None:
    shown = visible(text)
    assert all(x in "\n\t" or x.isprintable() or unicodedata.category(x) == "Zs" for x in shown)
    shown.encode("utf-8")
    plain = "".join(letter for letter in text if letter.isprintable())
    assert visible(plain) == plain
    if len(text) > most:
        assert f"{len(text) - most:,} more characters" in visible(text, most)
