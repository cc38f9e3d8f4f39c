"""One candidate: a capped rationale, then a label for each question, read as a distribution."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from judges.client import ChatClient, Completion
from judges.errors import RequestFault
from judges.injection import second_view
from judges.judgement import Candidate, Judgement, Status, Usage
from judges.labels import LabelTokens, Reading, raise_unless_finished
from judges.prompts import Prompt, render
from judges.rubric import Rubric

LabelSource = Callable[[], Awaitable[LabelTokens]]

# A model's generation_config.json would otherwise set what a request leaves out, at temperature 0
# too (a repetition penalty lowers labels that the prompt lists).
_GREEDY: dict[str, Any] = {"temperature": 0, "top_p": 1, "repetition_penalty": 1}

# Anchored at the start, and about the work itself: "Unfortunately, I can't see a check for empty
# input" is a review, as is "I can't help but note".
_SORRY = (
    r"(?:(?:i['\u2019]?m (?:so )?sorry|i am sorry|sorry|i apologi[sz]e|unfortunately)"
    r"[,.;]?\s*)?"
)
_CANNOT = (
    r"(?:but )?(?:i|as an ai[^.]{0,60}, i)\s*(?:can['\u2019]?t|can ?not|won['\u2019]?t"
    r"|(?:am|['\u2019]m) (?:unable|not able) to|(?:must|have to) decline)\b"
)
_WORK = (
    r"\s+(?:to )?(?:assist|help(?!\s+but\b)|comply|fulfil|engage|review|grade|judge|continue"
    r"|do (?:this|that|it)\b|provide (?:an? |any )?(?:review|assessment|grade|rationale))"
)
_REFUSAL = re.compile(f"{_SORRY}{_CANNOT}{_WORK}", re.IGNORECASE)


@dataclass(frozen=True)
class Manner:
    """How candidates are put to the model.

    Attributes:
        seed: The run's seed; with the candidates' ids it fixes every byte of a prompt.
        rationale_tokens: Cap of the rationale. Being cut there is no fault.
        injection_threshold: A score that falls by more than this share of the scale's range in the
            second look is flagged. None: no second look.
        guarded: False leaves out what stands between candidate and judge, to measure its worth.
    """

    seed: int
    rationale_tokens: int
    injection_threshold: float | None
    guarded: bool = True


async def ask(
    client: ChatClient,
    labels: LabelSource,
    rubric: Rubric,
    candidates: Sequence[Candidate],
    prompt: Prompt,
    rationale_tokens: int,
) -> Judgement:
    """Sends one prompt and reads the rationale and a label for each of its questions.

    Args:
        client: Where to send it.
        labels: Gives the rubric's labels in the server's tokenizer.
        rubric: The rubric that the prompt was rendered from.
        candidates: The candidates in the prompt, in order.
        prompt: What to send.
        rationale_tokens: Cap of the rationale.

    Returns:
        A judgement; faults of the requests are in its status.

    Raises:
        JudgeError: The judge can't work as it is set up.
    """
    usage = Usage()
    rationale = ""
    readings: dict[str, Reading] = {}
    status, detail = Status.OK, ""
    try:
        tokens = await labels()
        first = await client.chat(
            prompt.messages, max_completion_tokens=rationale_tokens, **_GREEDY
        )
        usage += first.usage
        rationale = first.text.strip()
        _check_rationale(first, rationale_tokens)

        async def answer(name: str) -> Completion:
            messages = prompt.with_rationale(rationale, name)
            return await client.chat(messages, **_GREEDY, **tokens.request_fields())

        # Together, so that the server still holds what they share; all end before one is read.
        answers = await asyncio.gather(*map(answer, prompt.questions), return_exceptions=True)
        for each in answers:
            usage += each.usage if isinstance(each, Completion) else Usage()
        for name, each in zip(prompt.questions, answers, strict=True):
            if isinstance(each, BaseException):
                raise each
            readings[name] = tokens.read(each)
    except RequestFault as fault:
        status, detail = fault.status, fault.detail
    whole = _combined(rubric, readings) if status is Status.OK else None
    return Judgement(
        candidate_ids=tuple(candidate.candidate_id for candidate in candidates),
        rubric=rubric.full_name,
        rubric_sha=rubric.sha,
        status=status,
        score=whole.score if whole else None,
        judge=client.model,
        prompt_sha=prompt.sha,
        probs=whole.probs if whole else {},
        leftover=whole.leftover if whole else None,
        entropy=whole.entropy if whole else None,
        rationale=rationale,
        usage=usage,
        detail=detail,
    )


def _combined(rubric: Rubric, readings: Mapping[str, Reading]) -> Reading:
    """Returns the reading of the one label, or of a checklist that of all its items.

    A checklist's score is s = w1 s1 + ... + wn sn (Qwen2.5-Coder technical report, section 4.1)
    with weights that sum to one, and the probability of a yes for each s.
    """
    if rubric.kind != "checklist":
        return readings[rubric.name]
    weights = rubric.weights
    return Reading(
        score=sum(weights[name] * reading.score for name, reading in readings.items()),
        probs={name: reading.score for name, reading in readings.items()},
        leftover=max(reading.leftover for reading in readings.values()),
        entropy=sum(reading.entropy for reading in readings.values()) / len(readings),
    )


async def score_candidate(
    client: ChatClient, labels: LabelSource, rubric: Rubric, candidate: Candidate, manner: Manner
) -> Judgement:
    """Judges one candidate, and a second time without what it says of itself where that can matter.

    Args:
        client: Where to send it.
        labels: Gives the rubric's labels in the server's tokenizer.
        rubric: A pointwise rubric or a checklist.
        candidate: What to judge.
        manner: How it is put.

    Raises:
        JudgeError: The judge can't work as it is set up.
    """

    async def look(view: Candidate, name: str) -> Judgement:
        prompt = render(rubric, [view], manner.seed, name, guarded=manner.guarded)
        return await ask(client, labels, rubric, [view], prompt, manner.rationale_tokens)

    first = await look(candidate, "as is")
    threshold = manner.injection_threshold
    if first.score is None or threshold is None or not manner.guarded:
        return first
    values = rubric.values.values()
    allowed_fall = threshold * (max(values) - min(values))
    if first.score - min(values) <= allowed_fall:
        return first  # It can't fall that far, so the second look would be wasted.
    try:
        bare = second_view(candidate.code, candidate.language)
    except RecursionError:
        return replace(
            first,
            status=Status.FLAGGED_INJECTION,
            score=None,
            detail="the code nests too deep for a second look without comments",
        )
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
    if not completion.text.strip():
        raise RequestFault(Status.PARSE_ERROR, "the judge wrote no rationale")
    if _REFUSAL.match(completion.text.strip()):
        raise RequestFault(Status.REFUSED, f"the judge refused: {completion.text[:200]}")
    if completion.finish_reason == "length" and completion.usage.completion_tokens < cap:
        raise RequestFault(
            Status.TRUNCATED,
            f"the judge's context was full after {completion.usage.completion_tokens} of {cap} "
            "rationale tokens",
        )
