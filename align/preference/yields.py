"""What came of the samples: matches and refusals, prompts by kind, rules without a pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from align.preference.candidates import Candidate
from align.preference.classes import NOT_EXECUTED, OutcomeClass
from align.settings import PairSettings


@dataclass
class Tally:
    """Counts that the choice of pairs leaves behind.

    Attributes:
        matches: By rule, what it allowed.
        refused: By reason, matches (and samples) that made no pair.
    """

    matches: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


def prompt_classes(groups: Iterable[Sequence[Candidate]]) -> Counter[str]:
    """Counts prompts by what their samples did; faults and samples that tampered did nothing."""
    return Counter(map(_prompt_class, groups))


def _prompt_class(group: Sequence[Candidate]) -> str:
    if all(candidate.outcome == NOT_EXECUTED for candidate in group):
        return "without tests"
    classes = [each.outcome_class for each in group if each.outcome_class is not None]
    if not classes:
        return "no verdict that counts"
    accepted = classes.count(OutcomeClass.ACCEPTED)
    if accepted == len(classes):
        return "all accepted"
    return "mixed" if accepted else "none accepted"


def rules_without_pairs(
    settings: PairSettings,
    groups: Mapping[str, Sequence[Candidate]],
    tally: Tally,
    made: Collection[str],
) -> dict[str, str]:
    """Returns why each rule that was asked made no pair, in words."""
    margins = {
        "judge_within_accepted": ("accepted", settings.judge_within_accepted.min_margin),
        "judge_open": (NOT_EXECUTED, settings.judge_open.min_margin),
    }
    reasons: dict[str, str] = {}
    for rule in settings.rules:
        if rule in made:
            continue
        if found := tally.matches[rule]:
            reasons[rule] = f"none of its {found} matches could be used: see what was refused"
        elif rule in margins:
            outcome, margin = margins[rule]
            tasks = sum(_scored(group, outcome) > 1 for group in groups.values())
            named = outcome.replace("_", " ")
            reasons[rule] = (
                f"tasks with two {named} answers that a judge scored: {tasks}; in none are scores "
                f"{margin:g} apart"
                if tasks
                else f"no task has two {named} answers that a judge scored"
            )
        else:
            reasons[rule] = "no task has two samples that it may pair"
    return reasons


def _scored(group: Sequence[Candidate], outcome: str) -> int:
    return sum(each.outcome == outcome and each.score is not None for each in group)
