"""Which matches of the rules become pairs: negatives, caps, likeness, lengths, balance.

Everything is drawn by hashes of ids and the run's seed, so that the order of the tables changes
nothing.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from align.preference.candidates import Candidate
from align.preference.classes import OutcomeClass
from align.preference.rules import ANY_NEGATIVE, OF_ALL_SAMPLES, RULES, Match, unfit
from align.preference.yields import Tally
from align.settings import PairSettings


@dataclass(frozen=True)
class Chosen:
    """A match that became a pair.

    Attributes:
        negative: `nearest`, `random` or `worst`; None where the rule itself named the rejected one.
    """

    match: Match
    negative: str | None


def choose(
    groups: Mapping[str, Sequence[Candidate]],
    settings: PairSettings,
    seed: int,
    tally: Tally,
    language: Callable[[str], str | None],
) -> list[Chosen]:
    """Returns the pairs of all tasks.

    Args:
        groups: Candidates by task.
        settings: Rules, shares and caps.
        seed: The run's.
        tally: Is told of matches, and of those that became no pair.
        language: From a task's id to its language, for the turns under `max_pairs`.
    """
    by_task = {
        task_id: list(_of_task(groups[task_id], settings, seed, tally))
        for task_id in sorted(groups)
    }
    found = [each for task_id in by_task for each in by_task[task_id]]
    if settings.max_pairs is None or len(found) <= settings.max_pairs:
        return found
    tally.refused["enough pairs in all"] += len(found) - settings.max_pairs
    turns = _in_turns(by_task, seed, language)
    return [chosen for chosen, _ in zip(turns, range(settings.max_pairs), strict=False)]


def _of_task(
    candidates: Sequence[Candidate], settings: PairSettings, seed: int, tally: Tally
) -> Iterator[Chosen]:
    steady = _steady(candidates, tally.refused)
    tally.refused.update(reason for each in steady if (reason := unfit(each, settings)))
    distinct = _distinct(steady, tally.refused)
    standing = {each.sample_id for each in distinct}
    uses: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    taken = 0
    for rule in settings.rules:
        found = RULES[rule](steady if rule in OF_ALL_SAMPLES else distinct, settings)
        matches = [match for match in found if standing.issuperset(_ids(match))]
        tally.matches[rule] += len(matches)
        for match, negative in _in_order(matches, rule, settings, seed):
            ids = _ids(match)
            reason = _fault(match, settings)
            if reason is None and _codes(match) in seen:
                reason = "same codes as another pair"
            if reason is None and _codes(match)[::-1] in seen:
                reason = "opposite of another pair"
            if reason is None and taken >= settings.per_task:
                reason = "enough pairs of the task"
            if reason is None and any(uses[name] >= settings.per_sample for name in ids):
                reason = "sample used enough"
            if reason is not None:
                tally.refused[reason] += 1
                continue
            seen.add(_codes(match))
            uses.update(ids)
            taken += 1
            yield Chosen(match, negative)


def _steady(candidates: Sequence[Candidate], refused: Counter[str]) -> list[Candidate]:
    """Returns the samples, sorted by id, but those whose program both passed and failed.

    Programs that differ by layout and comments alone do the same, so their verdicts disagree as
    those of one program's runs may: which of them is right is not known.
    """
    passed: dict[str, set[bool]] = defaultdict(set)
    for each in candidates:
        if each.outcome_class is not None:
            passed[each.normal].add(each.outcome_class is OutcomeClass.ACCEPTED)
    steady = [each for each in candidates if len(passed[each.normal]) < 2]
    if len(steady) < len(candidates):
        refused["sample's program passed and failed"] += len(candidates) - len(steady)
    return sorted(steady, key=lambda candidate: candidate.sample_id)


def _distinct(candidates: Sequence[Candidate], refused: Counter[str]) -> list[Candidate]:
    """Returns one of the samples that say the same and did the same, sorted by id.

    One that is the repair of another is kept, as is the other: their prompts differ.
    """
    repaired = {each.repairs for each in candidates}
    first: dict[tuple[object, ...], Candidate] = {}
    # One that a judge scored stays before one that it did not.
    for each in sorted(candidates, key=lambda c: (c.score is None, c.sample_id)):
        own = each.sample_id if each.sample_id in repaired else None
        key = (each.normal, each.outcome, each.ended, each.repairs, own)
        if key in first:
            refused["sample repeats another"] += 1
        else:
            first[key] = each
    return sorted(first.values(), key=lambda candidate: candidate.sample_id)


def _ids(match: Match) -> tuple[str, str]:
    return match.chosen.sample_id, match.rejected.sample_id


def _codes(match: Match) -> tuple[str, str]:
    return match.chosen.normal, match.rejected.normal


def _fault(match: Match, settings: PairSettings) -> str | None:
    """Returns why a match makes no pair, whatever others there are."""
    chosen, rejected = match.chosen, match.rejected
    if chosen.normal == rejected.normal:
        return "same code"
    if match.rule != "debug" and chosen.messages != rejected.messages:
        return "different prompts"
    if match.similarity > settings.max_similarity:
        return "too similar"
    longer, shorter = sorted((chosen.n_tokens, rejected.n_tokens), reverse=True)
    if longer > settings.max_length_ratio * max(1, shorter):
        return "lengths too different"
    return None


def _in_order(
    matches: Sequence[Match], rule: str, settings: PairSettings, seed: int
) -> Iterator[tuple[Match, str | None]]:
    """Yields a rule's matches in the order in which they are tried."""
    if not matches:
        return
    if rule not in ANY_NEGATIVE:
        for match in sorted(matches, key=lambda m: (-m.margin, *_ids(m))):
            yield match, None
        return
    task_id = matches[0].chosen.task_id
    draw = random.Random(f"{seed}:{task_id}:{rule}")
    shares = settings.negatives
    weights = {"nearest": shares.nearest, "random": shares.random, "worst": shares.worst}
    left = sorted(matches, key=_nearest_first)
    while left:
        (negative,) = draw.choices(list(weights), list(weights.values()))
        if negative == "random":
            place = draw.randrange(len(left))
        else:
            place = 0 if negative == "nearest" else -1
        yield left.pop(place), negative


def _nearest_first(match: Match) -> tuple[int, float, float, str, str]:
    bad = match.rejected
    nearest = bad.outcome_class
    assert nearest is not None, "a rule paired a sample of no class"
    return nearest, -bad.share, -match.similarity, *_ids(match)


def _in_turns(
    by_task: Mapping[str, Sequence[Chosen]], seed: int, language: Callable[[str], str | None]
) -> Iterator[Chosen]:
    """Yields pairs so that languages, and inside a language tasks, take turns."""
    tasks: dict[str, list[str]] = defaultdict(list)
    for task_id in sorted(by_task, key=lambda each: _draw(seed, each)):
        tasks[language(task_id) or ""].append(task_id)
    queues = {
        name: [
            chosen
            for turn in zip_longest(*(by_task[task_id] for task_id in of_language))
            for chosen in turn
            if chosen is not None
        ]
        for name, of_language in tasks.items()
    }
    heap = [(0, name) for name in sorted(queues) if queues[name]]
    while heap:
        taken, name = heapq.heappop(heap)
        yield queues[name][taken]
        if taken + 1 < len(queues[name]):
            heapq.heappush(heap, (taken + 1, name))


def _draw(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
