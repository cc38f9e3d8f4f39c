"""Two candidates, always in both orders."""

from __future__ import annotations

import asyncio

from judges.client import ChatClient
from judges.errors import JudgeError
from judges.judgement import Candidate, Judgement, Preference, Status
from judges.pointwise import LabelSource, Manner, ask
from judges.prompts import render
from judges.rubric import Rubric


async def compare_candidates(
    client: ChatClient,
    labels: LabelSource,
    rubric: Rubric,
    a: Candidate,
    b: Candidate,
    manner: Manner,
    margin: float,
) -> Preference:
    """Asks which of two candidates is better, once in each order, and combines the answers.

    Raises:
        JudgeError: The two are not two answers to one task, or the judge can't work as set up.
    """
    if a.task != b.task or a.candidate_id == b.candidate_id:
        raise JudgeError(
            f"candidates {a.candidate_id!r} and {b.candidate_id!r} can't be compared: give two "
            "different candidates of one task"
        )

    async def one(first: Candidate, second: Candidate) -> Judgement:
        pair = [first, second]
        prompt = render(rubric, pair, manner.seed, guarded=manner.guarded)
        return await ask(client, labels, rubric, pair, prompt, manner.rationale_tokens)

    ab, ba = await asyncio.gather(one(a, b), one(b, a))
    return combine_orders(ab, ba, margin)


def combine_orders(ab: Judgement, ba: Judgement, margin: float) -> Preference:
    """Combines the answers to (a, b) and to (b, a).

    Args:
        ab: Judgement of (a, b); its score is the probability that a is better.
        ba: Judgement of (b, a); its score is the probability that b is better.
        margin: Where the two probabilities that a is better differ by more than this, the judge
            looks at the position: no preference. 0 to 1.

    Raises:
        ValueError: The two judgements are not the two orders of one pair.
    """
    if ab.candidate_ids != ba.candidate_ids[::-1] or len(ab.candidate_ids) != 2:
        raise ValueError(f"{ab.candidate_ids} and {ba.candidate_ids} are not two orders of a pair")
    a, b = ab.candidate_ids
    if ab.score is None or ba.score is None:
        status = ab.status if ab.score is None else ba.status
        return Preference((a, b), status, None, None, None, (ab, ba))
    p_ab, p_ba = ab.score, 1 - ba.score
    p_first, gap = (p_ab + p_ba) / 2, abs(p_ab - p_ba)
    preferred = None if gap > margin or p_first == 0.5 else (a if p_first > 0.5 else b)
    return Preference((a, b), Status.OK, p_first, gap, preferred, (ab, ba))
