"""Log-likelihoods of a packed pass's labels; the output head runs nowhere else.

The head of a small model holds a third of its weights, and a row of its logits 150,000 numbers:
logits are made for a few hundred labels at a time, and never kept for the way back.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

_LABELS = 384
"""Labels whose logits exist at a time."""

_AFTER_HEAD = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_multiplier",
)
"""Settings of models that change logits after the head; they take the plain path."""

_CACHED = 16
"""Labels whose float32 logits are worked on at a time: they stay in a CPU's cache."""


def model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what of a packed pass a model takes."""
    names = [name for name in ("input_ids", "position_ids", "layout") if name in batch]
    return {name: batch[name] for name in names} | {"use_cache": False}


@dataclass(frozen=True)
class LabelScores:
    """What a model says of a packed pass's labels.

    Attributes:
        log_probs: Natural log-probabilities in float32, shape (labels,); they can be derived.
        entropies: Entropy in nats of the distribution that each label was drawn from, same shape.
    """

    log_probs: torch.Tensor
    entropies: torch.Tensor


def label_scores(model: Any, batch: Mapping[str, Any]) -> LabelScores:
    """Scores every label of a pass; one that several rows share is scored once.

    Args:
        model: A model that went through `add_loss_head`, itself or wrapped.
        batch: A pass, as `align.packing.pack` makes it.
    """
    places = torch.stack([batch["sources"], batch["targets"]])
    different, index = places.unique(dim=1, return_inverse=True)
    log_probs, entropies = model(
        **model_inputs(batch), loss_sources=different[0], loss_targets=different[1]
    )
    return LabelScores(log_probs[index], entropies[index])


def weighted_nll(model: Any, batch: Mapping[str, Any], weights: torch.Tensor) -> torch.Tensor:
    """Returns the sum of each label's weight times its negative log-probability.

    Args:
        model: A model that went through `add_loss_head`, itself or wrapped.
        batch: A pass, as `align.packing.pack` makes it.
        weights: Shape (labels,).
    """
    loss: torch.Tensor = model(
        **model_inputs(batch),
        loss_sources=batch["sources"],
        loss_targets=batch["targets"],
        loss_weights=weights,
    )[0]
    return loss


def add_loss_head(model: PreTrainedModel) -> None:
    """Lets `model(..., loss_sources, loss_targets, loss_weights)` return its loss, in a tuple.

    Without weights it returns each label's log-probability, and the entropy it was drawn with.
    It goes through the model's own forward, so that wrappers (PEFT, DDP, FSDP) see the call.
    """
    plain = model.forward
    config = model.config.get_text_config()
    changes_logits = any(getattr(config, name, None) not in (None, 1.0) for name in _AFTER_HEAD)

    @functools.wraps(type(model).forward)
    def forward(
        self: PreTrainedModel,
        *args: Any,
        loss_sources: torch.Tensor | None = None,
        loss_targets: torch.Tensor | None = None,
        loss_weights: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if loss_sources is None:
            return plain(*args, **kwargs)
        assert loss_targets is not None
        if changes_logits:
            logits = plain(*args, logits_to_keep=loss_sources, **kwargs).logits[0].float()
            losses = functional.cross_entropy(logits, loss_targets, reduction="none")
            if loss_weights is None:
                return -losses, torch.distributions.Categorical(logits=logits.detach()).entropy()
            return ((losses * loss_weights).sum(),)
        hidden = self.base_model(*args, **kwargs).last_hidden_state[0][loss_sources]
        head: Any = self.get_output_embeddings()
        bias = getattr(head, "bias", None)
        if loss_weights is None:
            return _LogProbs.apply(  # type: ignore[no-untyped-call]
                hidden, head.weight, bias, loss_targets
            )
        loss = _WeightedNll.apply(  # type: ignore[no-untyped-call]
            hidden, head.weight, bias, loss_targets, loss_weights
        )
        return (loss,)

    model.forward = MethodType(forward, model)


class _WeightedNll(torch.autograd.Function):
    """The sum of weight times negative log-probability; gradients are made on the way forward.

    The loss is linear in the log-probabilities, so the gradient of the logits (softmax minus
    one-hot, times the weight) is known as soon as they are: no logit is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """Shapes: hidden (labels, size), head (vocabulary, size), targets and weights (labels,)."""
        compute = _compute_dtype(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            return _WeightedNll._forward(
                ctx, hidden.to(compute), head, head.to(compute), bias, targets, weights
            )

    @staticmethod
    def _forward(
        ctx: Any,
        hidden: torch.Tensor,
        original: torch.Tensor,
        head: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        loss = hidden.new_zeros((), dtype=torch.float32)
        size = _chunk(len(targets))
        buffer = hidden.new_empty(size, len(head))
        grad_hidden = torch.empty_like(hidden)
        train_head, train_bias = ctx.needs_input_grad[1:3]
        grad_head = torch.zeros_like(original, dtype=torch.float32) if train_head else None
        grad_bias = torch.zeros(len(head), device=head.device) if train_bias else None
        for part, index, weight, grad in zip(
            *(tensor.split(size) for tensor in (hidden, targets, weights, grad_hidden)),
            strict=True,
        ):
            logits = _logits(part, head, bias, buffer)
            loss -= (_turn_to_slopes(logits, index, weight) * weight).sum()
            torch.mm(logits, head, out=grad)
            if grad_head is not None:
                grad_head += logits.t() @ part
            if grad_bias is not None:
                grad_bias += logits.sum(0, dtype=torch.float32)
        ctx.save_for_backward(grad_hidden, grad_head, grad_bias)
        ctx.dtypes = (original.dtype, None if bias is None else bias.dtype)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        """Scales the gradients by that of the loss."""
        (grad,) = grads
        hidden, head, bias = ctx.saved_tensors
        head_type, bias_type = ctx.dtypes
        return (
            hidden * grad.to(hidden.dtype),
            None if head is None else head.mul_(grad).to(head_type),
            None if bias is None else bias.mul_(grad).to(bias_type),
            None,
            None,
        )


class _LogProbs(torch.autograd.Function):
    """Log-probabilities of labels, and entropies; no logit is kept for the way back.

    What a label's log-probability owes to its hidden state (one-hot minus softmax, times the head)
    is made on the way forward; the way back only scales it. The head's own gradient needs the scale
    first: where it is trained, its logits are computed again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Shapes: hidden (labels, size), head (vocabulary, size), targets (labels,)."""
        compute = _compute_dtype(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            hidden_c, head_c = hidden.to(compute), head.to(compute)
            size = _chunk(len(targets))
            buffer = hidden_c.new_empty(size, len(head))
            slopes = torch.empty_like(hidden_c) if ctx.needs_input_grad[0] else None
            log_probs, entropies = [], []
            for start in range(0, len(targets), size):
                part = slice(start, start + size)
                logits = _logits(hidden_c[part], head_c, bias, buffer)
                up = hidden.new_full((len(logits),), -1.0, dtype=torch.float32)
                entropy = torch.empty_like(up)
                log_probs.append(_turn_to_slopes(logits, targets[part], up, entropy))
                entropies.append(entropy)
                if slopes is not None:
                    torch.mm(logits, head_c, out=slopes[part])
        train_head = any(ctx.needs_input_grad[1:3])
        ctx.save_for_backward(slopes, *((hidden_c, head, bias, targets) if train_head else ()))
        found = torch.cat(log_probs), torch.cat(entropies)
        ctx.mark_non_differentiable(found[1])
        return found

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        """Scales each label's slope by the gradient of its log-probability."""
        grad = grads[0]
        slopes, *rest = ctx.saved_tensors
        grad_hidden = None if slopes is None else slopes * grad.unsqueeze(1).to(slopes.dtype)
        if not rest:
            return grad_hidden, None, None, None
        hidden, head, bias, targets = rest
        with torch.autocast(hidden.device.type, enabled=False):
            grad_head, grad_bias = _head_gradients(hidden, head, bias, targets, grad)
        return grad_hidden, grad_head, grad_bias, None


def _head_gradients(
    hidden: torch.Tensor,
    head: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    grad: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    compute = head.to(hidden.dtype)
    size = _chunk(len(targets))
    buffer = hidden.new_empty(size, len(head))
    grad_head = torch.zeros_like(head, dtype=torch.float32)
    grad_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
    for start in range(0, len(targets), size):
        part = slice(start, start + size)
        logits = _logits(hidden[part], compute, bias, buffer)
        _turn_to_slopes(logits, targets[part], -grad[part])
        grad_head += logits.t() @ hidden[part]
        if grad_bias is not None:
            grad_bias += logits.sum(0, dtype=torch.float32)
    return grad_head.to(head.dtype), None if bias is None else grad_bias.to(bias.dtype)  # type: ignore[union-attr]


def _compute_dtype(hidden: torch.Tensor) -> torch.dtype:
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _chunk(count: int) -> int:
    """Returns how many labels to work on at a time, so that the chunks are of equal size."""
    return max(1, math.ceil(count / max(1, math.ceil(count / _LABELS))))


def _logits(
    hidden: torch.Tensor, head: torch.Tensor, bias: torch.Tensor | None, buffer: torch.Tensor
) -> torch.Tensor:
    logits = buffer[: len(hidden)]
    torch.mm(hidden, head.t(), out=logits)
    if bias is not None:
        logits += bias
    return logits


def _turn_to_slopes(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    entropies: torch.Tensor | None = None,
) -> torch.Tensor:
    """Overwrites logits by the loss's gradient with respect to them; returns log-probabilities.

    The loss is the weighted sum of negative log-probabilities. Where `entropies` are given, they
    are filled in.
    """
    found = []
    for start in range(0, len(targets), _CACHED):
        part = slice(start, start + _CACHED)
        few, column, weight = logits[part], targets[part].unsqueeze(1), weights[part]
        scores = few.float()
        scores.sub_(scores.amax(1, keepdim=True))
        chosen = scores.gather(1, column)
        powers = scores.exp_() if entropies is None else scores.exp()
        sums = powers.sum(1, keepdim=True)
        if entropies is not None:
            entropies[part] = (
                sums.log().squeeze(1) - torch.linalg.vecdot(scores, powers) / sums[:, 0]
            )
        found.append((chosen - sums.log()).squeeze(1))
        powers.scatter_add_(1, column, -sums)
        few.copy_(powers.mul_(weight.unsqueeze(1) / sums))
    return torch.cat(found)
