"""Which two samples of one task make a pair, and why. Pure functions over candidates.

A rule returns every match that it allows, with the better sample as the chosen one; which of them
become pairs is decided in `align.preference.choosing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from align.preference.candidates import Candidate
from align.preference.classes import NOT_EXECUTED, OutcomeClass
from align.preference.likeness import similarity
from align.preference.ranking import Matrix, agreement_scores, mutual_ranks
from align.settings import PairSettings


@dataclass(frozen=True)
class Match:
    """Two candidates in order: what the rule prefers, over what, and by how much.

    Attributes:
        margin: In the rule's own measure: a share of tests, judge's scores, or a ratio.
    """

    chosen: Candidate
    rejected: Candidate
    rule: str
    margin: float

    @cached_property
    def similarity(self) -> float:
        """How alike the two codes are, 0 to 1, layout and comments aside."""
        return similarity(self.chosen.marks, self.rejected.marks)


RuleFunction = Callable[[Sequence[Candidate], PairSettings], list[Match]]


def exec_strict(candidates: Sequence[Candidate], settings: PairSettings) -> list[Match]:
    """All tests pass against at least one fails.

    The margin is the share of the tests that the rejected one fails.
    """
    return [
        Match(good, bad, "exec_strict", 1.0 - bad.share)
        for good in candidates
        if _accepted(good, settings)
        for bad in candidates
        if _failed(bad, settings)
    ]


def exec_margin(candidates: Sequence[Candidate], settings: PairSettings) -> list[Match]:
    """AceCoder's rule (arXiv:2502.01718): most tests pass against clearly fewer, but some.

    That the rejected one passes some drops failures that have nothing to do with the task. What
    failed otherwise (crashed, ran out of time) is not preferred to what ran to its end. The margin
    is the difference of the shares passed.
    """
    limits = settings.exec_margin
    return [
        Match(good, bad, "exec_margin", good.share - bad.share)
        for good in candidates
        if _choosable(good, settings) and good.share >= limits.min_chosen
        for bad in candidates
        if _failed(bad, settings) and bad.share > 0 and _no_worse(good, bad)
        # Shares are binary fractions: 0.8 - 0.4 is less than 0.4 by the last digit.
        if good.share - bad.share >= limits.min_gap - 1e-9 and good.share > bad.share
    ]


def judge_within_accepted(candidates: Sequence[Candidate], settings: PairSettings) -> list[Match]:
    """Both pass all tests; the judge's scores differ by the margin at least."""
    both = [each for each in candidates if _accepted(each, settings)]
    return _by_score(both, "judge_within_accepted", settings.judge_within_accepted.min_margin)


def judge_open(candidates: Sequence[Candidate], settings: PairSettings) -> list[Match]:
    """The task has no tests; the judge's scores differ by the margin at least."""
    both = [each for each in candidates if each.outcome == NOT_EXECUTED and each.ended]
    return _by_score(both, "judge_open", settings.judge_open.min_margin)


def efficiency(candidates: Sequence[Candidate], settings: PairSettings) -> list[Match]:
    """Both pass all tests, and one takes clearly less CPU time in all of several runs.

    The margin is how many times longer the slow one's fastest run takes than the fast one's slowest
    run: where even these are apart, the order is not the machine's mood.
    """
    limits = settings.efficiency
    timed = [
        each
        for each in candidates
        if _accepted(each, settings) and len(each.runs) >= limits.min_runs and max(each.runs) > 0
    ]
    found = []
    for fast in timed:
        for slow in timed:
            ratio = min(slow.runs) / max(fast.runs)
            if ratio >= limits.min_ratio and min(slow.runs) >= limits.min_cpu_ms:
                found.append(Match(fast, slow, "efficiency", ratio))
    return found


def debug(candidates: Sequence[Candidate], settings: PairSettings) -> list[Match]:
    """A repaired version that passes all tests against the failing attempt that it names."""
    attempts = {each.sample_id: each for each in candidates if _failed(each, settings)}
    return [
        Match(good, bad, "debug", 1.0 - bad.share)
        for good in candidates
        if _accepted(good, settings) and (bad := attempts.get(good.repairs or "")) is not None
    ]


def code_test_rank(candidates: Sequence[Candidate], settings: PairSettings) -> list[Match]:
    """CodeDPO's mutual ranking of samples and tests, for tests that are not trusted themselves."""
    limits = settings.code_test_rank
    ranks = partial(mutual_ranks, damping=limits.damping, iterations=limits.iterations)
    return _by_rank(candidates, settings, "code_test_rank", ranks, limits.min_margin)


def agreement(candidates: Sequence[Candidate], settings: PairSettings) -> list[Match]:
    """CodeT's agreement of samples and tests, for tests that are not trusted themselves."""
    floor = settings.agreement.min_margin
    return _by_rank(candidates, settings, "agreement", agreement_scores, floor)


RULES: dict[str, RuleFunction] = {
    "exec_strict": exec_strict,
    "exec_margin": exec_margin,
    "judge_within_accepted": judge_within_accepted,
    "judge_open": judge_open,
    "efficiency": efficiency,
    "debug": debug,
    "code_test_rank": code_test_rank,
    "agreement": agreement,
}

#: Rules that rank by how many samples agree, so that repeated ones must be there to be counted.
OF_ALL_SAMPLES = frozenset({"code_test_rank", "agreement"})

#: Rules whose rejected side is any failing sample, of which the settings' shares pick; the others'
#: matches are taken by their margin, the widest first.
ANY_NEGATIVE = frozenset({"exec_strict", "exec_margin"})


def _ran(candidate: Candidate, settings: PairSettings) -> bool:
    """Whether a verdict says something about the candidate."""
    trusted = candidate.strength == "strong" or settings.weak
    return candidate.outcome_class is not None and trusted


def _choosable(candidate: Candidate, settings: PairSettings) -> bool:
    """Whether it ended by itself, and its verdict rests on enough runs."""
    enough = max(1, len(candidate.runs)) >= settings.min_runs
    return _ran(candidate, settings) and candidate.ended and enough


def _no_worse(good: Candidate, bad: Candidate) -> bool:
    """Whether one's outcome class is the other's, or a better one."""
    classes = good.outcome_class, bad.outcome_class
    return classes[0] is not None and classes[1] is not None and classes[0] <= classes[1]


def _accepted(candidate: Candidate, settings: PairSettings) -> bool:
    """Whether it passed all tests, in enough runs, and ended by itself."""
    return candidate.outcome_class is OutcomeClass.ACCEPTED and _choosable(candidate, settings)


def _failed(candidate: Candidate, settings: PairSettings) -> bool:
    """Whether it failed a test; one that was cut fails for another reason than its code."""
    return (
        _ran(candidate, settings)
        and candidate.outcome_class is not OutcomeClass.ACCEPTED
        and (candidate.ended or settings.truncated_negatives)
    )


def unfit(candidate: Candidate, settings: PairSettings) -> str | None:
    """Returns why no rule by execution takes a sample whose verdict says something of it."""
    if candidate.outcome_class is None:
        return None  # counted by its outcome
    if not _ran(candidate, settings):
        return "sample's tests were weak"
    accepted = candidate.outcome_class is OutcomeClass.ACCEPTED
    if not candidate.ended and (accepted or not settings.truncated_negatives):
        return "sample was cut"
    if accepted and not _choosable(candidate, settings):
        return "sample ran too few times"
    return None


def _by_score(candidates: Sequence[Candidate], rule: str, floor: float) -> list[Match]:
    scored = [(each, each.score) for each in candidates if each.score is not None]
    return _ordered(scored, rule, floor)


def _by_rank(
    candidates: Sequence[Candidate],
    settings: PairSettings,
    rule: str,
    ranks: Callable[[Matrix], list[float]],
    floor: float,
) -> list[Match]:
    """Ranks the samples that ran; what has no result of single tests passed none.

    Equal programs count as often as they were sampled: how many agree is what is measured.
    """
    ran = [each for each in candidates if _ran(each, settings) and each.ended]
    width = max((len(each.tests) for each in ran), default=0)
    rows = [each.tests if len(each.tests) == width else (False,) * width for each in ran]
    scores = ranks(rows)
    best = max(scores, default=0.0)
    if width == 0 or best <= 0:
        return []
    relative = [(each, score / best) for each, score in zip(ran, scores, strict=True)]
    return [
        match
        for match in _ordered(relative, rule, floor)
        if any(match.chosen.tests) and _choosable(match.chosen, settings)
    ]


def _ordered(scored: Sequence[tuple[Candidate, float]], rule: str, floor: float) -> list[Match]:
    return [
        Match(good, bad, rule, high - low)
        for good, high in scored
        for bad, low in scored
        if high > low and high - low >= floor
    ]
