"""Does a judge of quality prefer good code to the same code made worse on purpose?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from align.asking import JudgeAsker
from judges import Candidate, Rubric
from judges.calibration import Share, order_consistency, wins
from judges.degradations import degrade, normal_form


def planted_faults(
    asker: JudgeAsker, rubric: Rubric, originals: Iterable[Candidate]
) -> dict[str, Any]:
    """Puts originals and their worse forms to a judge.

    Args:
        asker: The judge.
        rubric: Pointwise, or pairwise.
        originals: Python code that is right; what does not parse is left out.

    Returns:
        How often the original won, ties counting half, by problem: a `Share` with `by_kind`, and
        with a pairwise rubric `order_consistency`.
    """
    plain: dict[str, Candidate] = {}
    worse: dict[str, dict[str, Candidate]] = {}
    for original in originals:
        code = normal_form(original.code)
        made = degrade(original.code) if code is not None else {}
        if code is None or not made:
            continue
        name = original.candidate_id
        plain[name] = _copy(original, f"{name}/original", code)
        worse[name] = {kind: _copy(original, f"{name}/{kind}", text) for kind, text in made.items()}
    if rubric.kind == "pairwise":
        return _compared(asker, rubric, plain, worse)
    candidates = [*plain.values(), *(each for made in worse.values() for each in made.values())]
    scores = {
        each.candidate_ids[0]: each.score
        for each in asker.score(rubric, candidates)
        if each.score is not None
    }
    return _shares(
        [
            (kind, name, scores[plain[name].candidate_id], scores[each.candidate_id])
            for name, made in worse.items()
            for kind, each in made.items()
            if {plain[name].candidate_id, each.candidate_id} <= scores.keys()
        ]
    )


def _compared(
    asker: JudgeAsker,
    rubric: Rubric,
    plain: Mapping[str, Candidate],
    worse: Mapping[str, Mapping[str, Candidate]],
) -> dict[str, Any]:
    pairs = {
        (plain[name].candidate_id, each.candidate_id): (kind, name)
        for name, made in worse.items()
        for kind, each in made.items()
    }
    asked = [(plain[name], each) for name, made in worse.items() for each in made.values()]
    answered = sorted(asker.compare(rubric, asked), key=lambda each: each.candidate_ids)
    rows = [
        (*pairs[each.candidate_ids], share, 1 - share)
        for each in answered
        if (share := each.share_first) is not None
    ]
    consistency = order_consistency((pairs[each.candidate_ids][1], each) for each in answered)
    return {**_shares(rows), "order_consistency": consistency}


def _copy(candidate: Candidate, candidate_id: str, code: str) -> Candidate:
    return Candidate(
        candidate_id,
        candidate.task,
        code,
        candidate.language,
        candidate.reference,
        candidate.outcomes,
    )


def _shares(rows: list[tuple[str, str, float, float]]) -> dict[str, Any]:
    kinds = sorted({kind for kind, *_ in rows})
    by_kind: dict[str, Share] = {
        kind: wins((name, better, worse) for each, name, better, worse in rows if each == kind)
        for kind in kinds
    }
    everything = wins((name, better, worse) for _, name, better, worse in rows)
    return {**everything, "by_kind": by_kind}
