"""What goes into a judge and what comes out of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    """How a judgement ended. Only `OK` carries a score; nothing else is ever turned into one."""

    OK = "ok"
    PARSE_ERROR = "parse_error"
    """The server answered, but not with a rationale and a label."""
    TRUNCATED = "truncated"
    """The judge's context was full before the answer was complete."""
    REFUSED = "refused"
    """The model, or a filter in front of it, declined to judge."""
    INFRA_ERROR = "infra_error"
    """The server could not be reached or failed; the candidate was not judged."""
    FLAGGED_INJECTION = "flagged_injection"
    """The score stood on comments or docstrings: it fell, or might, when they are taken out."""


def sha256_of(value: object) -> str:
    """Returns the sha256 of a JSON-able value in canonical form, as hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Candidate:
    """One piece of code to be judged.

    Attributes:
        candidate_id: Unique in the run (a sample id); it seeds the fence's nonce.
        task: What was asked, in words.
        code: The answer.
        language: Language of the code; the comment-stripped second look knows `python`.
        reference: The task's own solution, for rubrics that show it.
        outcomes: What the tests said of this candidate, for rubrics that show it.
    """

    candidate_id: str
    task: str
    code: str
    language: str = "python"
    reference: str = ""
    outcomes: str = ""


@dataclass(frozen=True)
class Usage:
    """Tokens that a judgement cost, summed over its requests.

    Attributes:
        prompt_tokens: Tokens read, those from the server's prefix cache included.
        completion_tokens: Tokens written.
        requests: Requests that were answered.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Sums two bills."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.requests + other.requests,
        )

    def to_row(self) -> dict[str, int]:
        """Returns plain types."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "requests": self.requests,
        }


@dataclass(frozen=True)
class Judgement:
    """What one judge said of one candidate (or of an ordered pair) under one rubric.

    Attributes:
        candidate_ids: One id, or two in the order in which the judge saw them.
        rubric: Name and version, `name/version`.
        rubric_sha: Hash of the whole rubric.
        status: How it ended.
        score: Expectation of the labels' values, of a checklist the weighted mean of its items'
            probabilities of a yes; None unless the status is `ok`.
        probs: Probability of each label, renormalised over the labels, of a checklist the
            probability of a yes to each item; empty where none was read.
        leftover: Probability that the model gave to tokens that are no label, 0 to 1, before
            renormalising (of a checklist's items the largest); large means that the model did not
            want to answer in labels.
        entropy: Of the labels, in nats; of a checklist the mean over its items.
        rationale: What the judge wrote before its label.
        judge: Name of the model.
        prompt_sha: Hash of the rendered messages.
        usage: Tokens spent, the second look included.
        detail: Why the status is not `ok`; empty otherwise.
    """

    candidate_ids: tuple[str, ...]
    rubric: str
    rubric_sha: str
    status: Status
    score: float | None
    judge: str
    prompt_sha: str
    probs: dict[str, float] = field(default_factory=dict)
    leftover: float | None = None
    entropy: float | None = None
    rationale: str = ""
    usage: Usage = field(default_factory=Usage)
    detail: str = ""

    def __post_init__(self) -> None:
        """Refuses a score without the status that earns it, and the reverse."""
        if (self.score is not None) != (self.status is Status.OK):
            raise ValueError(
                f"judgement of {', '.join(self.candidate_ids)}: score {self.score} with status "
                f"{self.status}; a score exists if and only if the status is ok"
            )

    @property
    def judgement_id(self) -> str:
        """Hash of who judged what with which words; the same request has the same id."""
        return sha256_of([self.candidate_ids, self.judge, self.rubric_sha, self.prompt_sha])

    def to_row(self) -> dict[str, str | float | None]:
        """Returns the judgement as plain types; nested values are JSON strings."""
        return {
            "judgement_id": self.judgement_id,
            "candidate_ids": json.dumps(self.candidate_ids),
            "rubric": self.rubric,
            "rubric_sha": self.rubric_sha,
            "status": self.status.value,
            "score": self.score,
            "probs": json.dumps(self.probs, sort_keys=True),
            "leftover": self.leftover,
            "entropy": self.entropy,
            "rationale": self.rationale,
            "judge": self.judge,
            "prompt_sha": self.prompt_sha,
            "usage": json.dumps(self.usage.to_row()),
            "detail": self.detail,
        }


@dataclass(frozen=True)
class Preference:
    """Which of two candidates a judge prefers, asked in both orders.

    Attributes:
        candidate_ids: The two ids, as they were given to `compare`.
        status: `ok` if both orders were answered, else that of the first that was not.
        p_first: Probability that `candidate_ids[0]` is better, averaged over the orders; None
            unless the status is `ok`.
        order_gap: Absolute difference of that probability between the orders, 0 to 1: the
            judge's position bias on this pair. None unless the status is `ok`.
        preferred: Id of the better one. None is "no preference": a tie, orders that disagree by
            more than the margin, or no answer.
        judgements: The two answers, in the order asked; the score of each is the probability that
            the one shown first is better.
    """

    candidate_ids: tuple[str, str]
    status: Status
    p_first: float | None
    order_gap: float | None
    preferred: str | None
    judgements: tuple[Judgement, Judgement]

    @property
    def share_first(self) -> float | None:
        """What the comparison is worth to the first: `p_first`, one half without a preference.

        None unless the status is `ok`.
        """
        return 0.5 if self.preferred is None and self.p_first is not None else self.p_first
