"""One label token, read as a distribution.

The label request may generate one token, one of the labels, and what counts is not the token but
the probabilities that the model gave to each. The constraint is vLLM's `allowed_token_ids`, not
`structured_outputs`: vLLM applies a grammar to the logits before it takes log-probabilities, so
that the probability of everything that is no label would be lost; allowed ids are applied after.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from judges.client import ChatClient, Completion
from judges.errors import JudgeError, RequestFault
from judges.judgement import Status
from judges.rubric import Rubric

# Rounding of 16-bit log-probabilities may lift a sum of probabilities a little above one.
_ROUNDING = 0.02


@dataclass(frozen=True)
class Reading:
    """A distribution over labels.

    Attributes:
        score: Expectation of the labels' values under `probs`.
        probs: Probability of each label, summing to one.
        leftover: Probability of everything else, before renormalising, 0 to 1.
        entropy: Of `probs`, in nats: 0 is certain, ln(number of labels) knows nothing.
    """

    score: float
    probs: dict[str, float]
    leftover: float
    entropy: float


@dataclass(frozen=True)
class LabelTokens:
    """The labels of a rubric in one tokenizer.

    Attributes:
        ids: Token id of each label.
        values: Value of each label.
    """

    ids: Mapping[str, int]
    values: Mapping[str, float]

    def request_fields(self) -> dict[str, Any]:
        """Returns the fields of a request for one label (names as of vLLM 0.32)."""
        ids = sorted(self.ids.values())
        return {
            "max_completion_tokens": 1,
            "allowed_token_ids": ids,
            "logprobs": True,
            "logprob_token_ids": ids,
            # For servers that don't know the field above; those that do go by it alone.
            "top_logprobs": 20,
            # By id, since two tokens can decode to one text.
            "return_tokens_as_token_ids": True,
        }

    def read(self, completion: Completion) -> Reading:
        """Reads the distribution from the answer to a label request.

        Raises:
            RequestFault: The model refused, or the log-probabilities of the labels are not there.
        """
        raise_unless_finished(completion)
        if completion.text.strip() not in self.ids:
            raise RequestFault(
                Status.PARSE_ERROR,
                f"the judge answered {completion.text[:40]!r} where one of {list(self.ids)} was "
                "asked for; the server does not heed allowed_token_ids",
            )
        weights: dict[str, float] = {}
        for label, token_id in self.ids.items():
            logprob = completion.first_logprobs.get(f"token_id:{token_id}")
            if logprob is None or math.isnan(logprob):
                raise RequestFault(
                    Status.PARSE_ERROR,
                    f"the answer has no log-probability of label {label!r}; the server does not "
                    "heed logprob_token_ids (vLLM 0.32 does)",
                )
            weights[label] = math.exp(min(logprob, 1.0))
        mass = sum(weights.values())
        if not 0 < mass <= 1 + _ROUNDING:
            raise RequestFault(
                Status.PARSE_ERROR, f"the probabilities of the labels sum to {mass:.3g}"
            )
        probs = {label: weight / mass for label, weight in weights.items()}
        return Reading(
            score=sum(probs[label] * self.values[label] for label in probs),
            probs=probs,
            leftover=max(0.0, 1 - mass),
            entropy=-sum(p * math.log(p) for p in probs.values() if p > 0),
        )


async def resolve_labels(client: ChatClient, rubric: Rubric) -> LabelTokens:
    """Asks the server's tokenizer for the labels.

    Raises:
        JudgeError: A label is not exactly one token ("10" often is two), or two share one.
        RequestFault: The server did not answer.
    """
    values = rubric.values
    found = await asyncio.gather(*(client.token_ids(label) for label in values))
    for label, tokens in zip(values, found, strict=True):
        if len(tokens) != 1:
            raise JudgeError(
                f"rubric {rubric.full_name}: label {label!r} is {len(tokens)} tokens for "
                f"{client.model}; choose labels of one token each, such as digits or capitals"
            )
    ids = {label: tokens[0] for label, tokens in zip(values, found, strict=True)}
    if len(set(ids.values())) < len(ids):
        raise JudgeError(
            f"rubric {rubric.full_name}: two labels are one token for {client.model}: {ids}"
        )
    return LabelTokens(ids, values)


def raise_unless_finished(completion: Completion) -> None:
    """Raises `RequestFault` where the answer is not one that the model itself ended or its cap did.

    A server that goes down answers what was in flight with what it has so far (vLLM: `abort`).
    """
    if completion.refusal or completion.finish_reason == "content_filter":
        raise RequestFault(
            Status.REFUSED,
            f"the judge refused: {completion.refusal or 'stopped by a content filter'}",
        )
    if completion.finish_reason not in ("stop", "length"):
        raise RequestFault(
            Status.INFRA_ERROR,
            f"the server broke the answer off (finish_reason {completion.finish_reason!r})",
        )
