"""Which two samples of one task make a pair, and why. Pure functions over candidates."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

#: Outcomes that may stand on the rejected side, the nearest to accepted first. Faults of the
#: infrastructure, flaky, tampered and invalid ones are in no class and never enter a pair.
REJECTED_CLASSES = {
    "wrong_answer": 1,
    "runtime_error": 2,
    "time_limit": 3,
    "memory_limit": 3,
    "output_limit": 3,
    "compile_error": 4,
    "no_code": 4,
}


@dataclass(frozen=True)
class Candidate:
    """One sample with all that the rules look at.

    Attributes:
        ended: The policy ended the answer itself (no cut at the token limit).
        passed: Share of the tests passed, 0 to 1.
        score: The judge's score, or None where it gave none.
    """

    sample_id: str
    task_id: str
    outcome: str
    strength: str
    passed: float
    ended: bool
    text: str
    code: str | None
    n_tokens: int
    verdict_id: str
    judgement_id: str | None = None
    score: float | None = None


@dataclass(frozen=True)
class Match:
    """Two candidates in order: what the rule prefers, over what, and by how much."""

    chosen: Candidate
    rejected: Candidate
    rule: str
    margin: float
    similarity: float


def exec_strict(candidates: list[Candidate], min_margin: float) -> Iterator[Match]:
    """All tests pass against at least one fails; the nearest failing samples come first.

    The margin is the share of the tests that the rejected one fails.
    """
    del min_margin  # execution needs none
    chosen = [c for c in candidates if _may_be_chosen(c)]
    rejected = [c for c in candidates if c.outcome in REJECTED_CLASSES and c.ended]
    ranked = [
        Match(good, bad, "exec_strict", 1.0 - bad.passed, similarity(good, bad))
        for good in chosen
        for bad in rejected
        if bad.strength == "strong"
    ]
    yield from sorted(ranked, key=_nearest_first)


def judge_within_accepted(candidates: list[Candidate], min_margin: float) -> Iterator[Match]:
    """Both pass all tests; the judge's scores differ by at least `min_margin`, widest first."""
    scored = [c for c in candidates if _may_be_chosen(c) and c.score is not None]
    matches = []
    for good in scored:
        for bad in scored:
            margin = (good.score or 0.0) - (bad.score or 0.0)
            if margin >= min_margin and good.sample_id != bad.sample_id and margin > 0:
                matches.append(
                    Match(good, bad, "judge_within_accepted", margin, similarity(good, bad))
                )
    yield from sorted(matches, key=lambda m: (-m.margin, m.chosen.sample_id, m.rejected.sample_id))


RULES: dict[str, Callable[[list[Candidate], float], Iterator[Match]]] = {
    "exec_strict": exec_strict,
    "judge_within_accepted": judge_within_accepted,
}


def _may_be_chosen(candidate: Candidate) -> bool:
    return candidate.outcome == "accepted" and candidate.strength == "strong" and candidate.ended


def _nearest_first(match: Match) -> tuple[int, float, float, str, str]:
    bad = match.rejected
    nearest = REJECTED_CLASSES[bad.outcome]
    return nearest, -bad.passed, -match.similarity, match.chosen.sample_id, bad.sample_id


def similarity(first: Candidate, second: Candidate) -> float:
    """Returns how alike two candidates' codes are, 0 to 1, layout and comments aside."""
    left, right = normal_form(first.code), normal_form(second.code)
    return difflib.SequenceMatcher(None, left.split(), right.split(), autojunk=False).ratio()


def normal_form(code: str | None) -> str:
    """Returns code without comments and layout; code that does not parse is returned as it is."""
    if not code:
        return ""
    try:
        return ast.unparse(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code
