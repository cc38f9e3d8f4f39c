"""Where an infilled answer ends and what it is made of: fences, prose, copies of what follows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from align.artifacts import Row

_FENCE = "```"
_WORDS = r"(?:[,!.]? [\w'`-]+){4,}"
_SENTENCE = re.compile(
    rf"[\"'*#/-]*\s*(?:[A-Z][\w'-]*{_WORDS}[.:!?,]?"
    r"|(?!(?:if|for|while|with|return|assert|import|from|print|del|yield|raise|not|else|elif)\b)"
    rf"[a-z][\w'-]*{_WORDS}[.!?])[\"']*"
)
"""Five words or more; with a small letter first, no keyword, and a stop at the end, unlike code."""
_LEAD = re.compile(
    r"(?:sure|certainly|of course|okay|ok)[,.!] [^=(]*|explanation:.*"
    r"|(?:here(?:'s| is| are)|to (?:fix|complete|fill)|this (?:code|function|line|will|is)"
    r"|note that|the (?:missing|following|code|function|correct)"
    r"|in this (?:code|example|function))\b.*",
    re.IGNORECASE,
)
"""How models begin to talk; such words begin no line of code."""
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
        `exact_match` (white space at the end aside), `fence_rate`, `prose_rate`,
        `suffix_bleed_rate` and `runs_on_rate`.
    """
    rows = [(str(row["text"]), gaps[row["task_id"]], row["finish_reason"]) for row in samples]

    def share(holds: Iterable[bool]) -> float:
        return sum(holds) / len(rows) if rows else 0.0

    return {
        "exact_match": share(text.rstrip() == gap.middle.rstrip() for text, gap, _ in rows),
        "fence_rate": share(has_fence(text, gap) for text, gap, _ in rows),
        "prose_rate": share(has_prose(text, gap) for text, gap, _ in rows),
        "suffix_bleed_rate": share(bleeds(text, gap) for text, gap, _ in rows),
        "runs_on_rate": share(runs_on(text, gap, reason) for text, gap, reason in rows),
    }


def has_fence(text: str, gap: Gap) -> bool:
    """Tells whether an answer holds a Markdown fence that does not belong there."""
    return _FENCE in text and _FENCE not in gap.middle


def has_prose(text: str, gap: Gap) -> bool:
    """Tells whether a line of an answer is a sentence: of five words or more, or as models talk.

    Code of the gap may hold such lines, in a docstring or a comment: they are not counted if the
    right middle or the code before the gap has them too. Inside an open docstring prose is code.
    """
    if gap.prefix.count('"""') % 2 or gap.prefix.count("'''") % 2:
        return False
    right = {line.strip() for line in (gap.prefix + gap.middle).splitlines()}
    lines = (line.strip() for line in text.splitlines())
    return any(
        (_SENTENCE.fullmatch(line) or _LEAD.fullmatch(line)) and line not in right
        for line in lines
        if not line.startswith(("#", "//", '"', "'"))
    )


def bleeds(text: str, gap: Gap) -> bool:
    """Tells whether an answer goes on into a copy of what follows the gap.

    Looked for are as many of the first lines as tell anything; white space at their ends aside.
    """
    head: list[str] = []
    for line in gap.suffix.splitlines():
        if line.strip():
            head.append(line.strip())
        if sum(map(len, head)) >= _TELLING:
            wanted = "\n".join(head)
            return _stripped(text).count(wanted) > _stripped(gap.middle).count(wanted)
    return False


def _stripped(text: str) -> str:
    """Returns a text's lines without white space at their ends, and without empty ones."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def runs_on(text: str, gap: Gap, finish_reason: str) -> bool:
    """Tells whether an answer did not end by itself, or fills a gap of one line with more."""
    lines = [line for line in text.splitlines() if line.strip()]
    return finish_reason != "stop" or (gap.one_line and len(lines) > 1)
