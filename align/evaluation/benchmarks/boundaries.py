"""Where an infilled answer ends and what it is made of: fences, prose, copies of what follows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from align.artifacts import Row

_FENCE = "```"
_SENTENCE = re.compile(r"\s*[\"'*#/-]*\s*[A-Z][\w'-]*(?:,? [\w'`-]+){4,}[.:!?,]?[\"']*\s*")
_TELLING = 4
"""A suffix that begins with fewer characters than these stands in any code."""


@dataclass(frozen=True)
class Gap:
    """A gap and what belongs in it.

    Attributes:
        one_line: Whether the gap is one line, so that a second line of an answer goes past it.
    """

    prefix: str
    middle: str
    suffix: str
    one_line: bool


def measure(samples: Iterable[Row], gaps: Mapping[str, Gap]) -> dict[str, float]:
    """Returns the shares of answers by what is right or wrong at their boundaries.

    Args:
        samples: Rows of the SAMPLE table, one a problem.
        gaps: By task id.

    Returns:
        `exact_match` (white space at the ends aside), `fence_rate`, `prose_rate`,
        `suffix_bleed_rate` and `runs_on_rate`.
    """
    rows = [(str(row["text"]), gaps[row["task_id"]], row["finish_reason"]) for row in samples]

    def share(holds: Iterable[bool]) -> float:
        return sum(holds) / len(rows) if rows else 0.0

    return {
        "exact_match": share(text.strip() == gap.middle.strip() for text, gap, _ in rows),
        "fence_rate": share(has_fence(text, gap) for text, gap, _ in rows),
        "prose_rate": share(has_prose(text, gap) for text, gap, _ in rows),
        "suffix_bleed_rate": share(bleeds(text, gap) for text, gap, _ in rows),
        "runs_on_rate": share(runs_on(text, gap, reason) for text, gap, reason in rows),
    }


def has_fence(text: str, gap: Gap) -> bool:
    """Tells whether an answer holds a Markdown fence that does not belong there."""
    return _FENCE in text and _FENCE not in gap.middle


def has_prose(text: str, gap: Gap) -> bool:
    """Tells whether a line of an answer is a sentence of five words or more.

    Code of the gap may hold such lines, in a docstring or a comment: they are not counted if the
    right middle or the code before the gap has them too. Inside an open docstring prose is code.
    """
    if gap.prefix.count('"""') % 2 or gap.prefix.count("'''") % 2:
        return False
    right = {line.strip() for line in (gap.prefix + gap.middle).splitlines()}
    lines = (line.strip() for line in text.splitlines())
    return any(
        _SENTENCE.fullmatch(line) is not None and line not in right
        for line in lines
        if not line.startswith(("#", "//", '"', "'"))
    )


def bleeds(text: str, gap: Gap) -> bool:
    """Tells whether an answer goes on into a copy of what follows the gap."""
    head = next((line.strip() for line in gap.suffix.splitlines() if line.strip()), "")
    if len(head) < _TELLING:
        return False
    return text.count(head) > gap.middle.count(head)


def runs_on(text: str, gap: Gap, finish_reason: str) -> bool:
    """Tells whether an answer did not end by itself, or fills a gap of one line with more."""
    lines = [line for line in text.splitlines() if line.strip()]
    return finish_reason != "stop" or (gap.one_line and len(lines) > 1)
