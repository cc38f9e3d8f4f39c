"""One candidate: a capped rationale, then one label, read as a distribution."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from judges.client import ChatClient, Completion
from judges.errors import RequestFault
from judges.injection import strip_comments
from judges.judgement import Candidate, Judgement, Status, Usage
from judges.labels import LabelTokens, Reading, raise_unless_finished
from judges.prompts import Prompt, render
from judges.rubric import Rubric

LabelSource = Callable[[], Awaitable[LabelTokens]]

# A model's generation_config.json would otherwise set what a request leaves out, at temperature 0
# too (a repetition penalty lowers labels that the prompt lists).
_GREEDY: dict[str, Any] = {"temperature": 0, "top_p": 1, "repetition_penalty": 1}

# Anchored at the start, and about helping: "I can't see a check for empty input" is a review.
_REFUSAL = re.compile(
    r"(?:i['\u2019]?m sorry|i am sorry|sorry|i apologi[sz]e)?[,.;]?\s*(?:but )?"
    r"(?:i|as an ai[^.]{0,60}, i)\s*"
    r"(?:can['\u2019]?t|can ?not|won['\u2019]?t|am unable to|['\u2019]?m unable to)\s+"
    r"(?:assist|help|comply|fulfil|engage)",
    re.IGNORECASE,
)


async def ask(
    client: ChatClient,
    labels: LabelSource,
    rubric: Rubric,
    candidates: Sequence[Candidate],
    prompt: Prompt,
    rationale_tokens: int,
) -> Judgement:
    """Sends one prompt and reads rationale and label.

    Args:
        client: Where to send it.
        labels: Gives the rubric's labels in the server's tokenizer.
        rubric: The rubric that the prompt was rendered from.
        candidates: The candidates in the prompt, in order.
        prompt: What to send.
        rationale_tokens: Cap of the rationale. Being cut there is no fault.

    Returns:
        A judgement; faults of the requests are in its status.

    Raises:
        JudgeError: The judge can't work as it is set up.
    """
    usage = Usage()
    rationale = ""
    reading: Reading | None = None
    status, detail = Status.OK, ""
    try:
        tokens = await labels()
        first = await client.chat(
            prompt.messages, max_completion_tokens=rationale_tokens, **_GREEDY
        )
        usage += first.usage
        rationale = first.text.strip()
        _check_rationale(first, rationale_tokens)
        second = await client.chat(
            prompt.with_rationale(rationale), **_GREEDY, **tokens.request_fields()
        )
        usage += second.usage
        reading = tokens.read(second)
    except RequestFault as fault:
        status, detail = fault.status, fault.detail
    return Judgement(
        candidate_ids=tuple(candidate.candidate_id for candidate in candidates),
        rubric=rubric.full_name,
        rubric_sha=rubric.sha,
        status=status,
        score=reading.score if reading else None,
        judge=client.model,
        prompt_sha=prompt.sha,
        probs=reading.probs if reading else {},
        leftover=reading.leftover if reading else None,
        entropy=reading.entropy if reading else None,
        rationale=rationale,
        usage=usage,
        detail=detail,
    )


async def score_candidate(
    client: ChatClient,
    labels: LabelSource,
    rubric: Rubric,
    candidate: Candidate,
    *,
    seed: int,
    rationale_tokens: int,
    injection_threshold: float | None,
) -> Judgement:
    """Judges one candidate, and a second time without its comments where that can matter.

    Args:
        client: Where to send it.
        labels: Gives the rubric's labels in the server's tokenizer.
        rubric: A pointwise rubric.
        candidate: What to judge.
        seed: The run's seed; with the candidate's id it fixes every byte of the prompt.
        rationale_tokens: Cap of the rationale.
        injection_threshold: A score that falls by more than this share of the scale's range without
            comments is flagged. None: no second look.

    Raises:
        JudgeError: The judge can't work as it is set up.
    """

    async def look(view: Candidate, name: str) -> Judgement:
        prompt = render(rubric, [view], seed, name)
        return await ask(client, labels, rubric, [view], prompt, rationale_tokens)

    first = await look(candidate, "as is")
    if first.score is None or injection_threshold is None:
        return first
    values = rubric.values.values()
    allowed_fall = injection_threshold * (max(values) - min(values))
    if first.score - min(values) <= allowed_fall:
        return first  # It can't fall that far, so the second look would be wasted.
    bare = strip_comments(candidate.code, candidate.language)
    if bare is None:
        return first
    second = await look(replace(candidate, code=bare), "without comments")
    usage = first.usage + second.usage
    if second.score is None:
        return replace(
            first,
            status=second.status,
            score=None,
            usage=usage,
            detail=f"second look, without comments: {second.detail}",
        )
    if first.score - second.score > allowed_fall:
        return replace(
            first,
            status=Status.FLAGGED_INJECTION,
            score=None,
            usage=usage,
            detail=f"the score falls from {first.score:.3f} to {second.score:.3f} without comments",
        )
    return replace(first, usage=usage)


def _check_rationale(completion: Completion, cap: int) -> None:
    raise_unless_finished(completion)
    if not completion.text:
        raise RequestFault(Status.PARSE_ERROR, "the judge wrote no rationale")
    if _REFUSAL.match(completion.text.strip()):
        raise RequestFault(Status.REFUSED, f"the judge refused: {completion.text[:200]}")
    if completion.finish_reason == "length" and completion.usage.completion_tokens < cap:
        raise RequestFault(
            Status.TRUNCATED,
            f"the judge's context was full after {completion.usage.completion_tokens} of {cap} "
            "rationale tokens",
        )
