"""A few answers sampled while training goes on: how long, how repetitive, how far off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional

_GRAM = 4
"""Tokens of a piece whose repetition counts."""


def sample_answers(
    model: Any,
    prompts: Sequence[Sequence[int]],
    most_tokens: int,
    *,
    end: int,
    seed: int,
    starts_at_reference: bool = True,
) -> dict[str, float]:
    """Samples one answer to each prompt, at temperature 1 and always with the same seed.

    Args:
        model: The policy, with an adapter or without.
        prompts: Token ids of each prompt.
        most_tokens: Tokens after which an answer is cut.
        end: The token that ends an answer.
        seed: Seed of the sampler; the process's own random state is kept.
        starts_at_reference: Whether the model without its adapter is the reference.

    Returns:
        Means over the answers: `length` in tokens; `repetition`, the share of pieces of 4 tokens
        that occurred before in the same answer; and `kl`, where the reference is the model without
        its adapter: the difference of the answer's log-probability under the two, in nats, an
        unbiased estimate of the policy's divergence over answers of at most so many tokens.
    """
    lengths, repetitions, divergences = [], [], []
    training = model.training
    model.eval()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for prompt in prompts:
            ids = torch.tensor([list(prompt)], device=model.device)
            whole = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=most_tokens,
                eos_token_id=end,
                pad_token_id=end,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                repetition_penalty=1.0,
            )
            answer = whole[0, len(prompt) :].tolist()
            lengths.append(len(answer))
            repetitions.append(repetition(answer))
            if isinstance(model, PeftModel) and starts_at_reference:
                here = _log_prob(model, whole, len(prompt))
                with model.disable_adapter():
                    divergences.append(here - _log_prob(model, whole, len(prompt)))
    model.train(training)
    found = {"length": _mean(lengths), "repetition": _mean(repetitions)}
    return found | ({"kl": _mean(divergences)} if divergences else {})


def repetition(ids: Sequence[int]) -> float:
    """Returns the share of an answer's 4-token pieces that occurred before in it."""
    pieces = [tuple(ids[start : start + _GRAM]) for start in range(len(ids) - _GRAM + 1)]
    return 1 - len(set(pieces)) / len(pieces) if pieces else 0.0


def _log_prob(model: Any, ids: torch.Tensor, prompt: int) -> float:
    logits = model(input_ids=ids, logits_to_keep=ids.shape[1] - prompt + 1).logits[0, :-1].float()
    return -float(functional.cross_entropy(logits, ids[0, prompt:], reduction="sum"))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
