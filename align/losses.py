"""Log-likelihoods of a packed pass's labels; the output head runs nowhere else.

The head of a small model holds a third of its weights, and a row of its logits 150,000 numbers:
logits are made for a few hundred labels at a time, and never kept for the way back.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
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


def label_log_probs(model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
    """Returns natural log-probabilities of a packed pass's labels, in float32, shape (labels,)."""
    logits = model(**model_inputs(batch), logits_to_keep=batch["sources"]).logits[0]
    return -functional.cross_entropy(logits.float(), batch["targets"], reduction="none")


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
        assert loss_targets is not None and loss_weights is not None
        if changes_logits:
            logits = plain(*args, logits_to_keep=loss_sources, **kwargs).logits[0]
            losses = functional.cross_entropy(logits.float(), loss_targets, reduction="none")
            return ((losses * loss_weights).sum(),)
        hidden = self.base_model(*args, **kwargs).last_hidden_state[0]
        head: Any = self.get_output_embeddings()
        bias = getattr(head, "bias", None)
        loss = _WeightedNll.apply(  # type: ignore[no-untyped-call]
            hidden[loss_sources], head.weight, bias, loss_targets, loss_weights
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
        device = hidden.device.type
        compute = hidden.dtype
        if torch.is_autocast_enabled(device):
            compute = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
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
        count = len(targets)
        size = math.ceil(count / max(1, math.ceil(count / _LABELS)))  # chunks of equal size
        buffer = hidden.new_empty(size, len(head))
        grad_hidden = torch.empty_like(hidden)
        train_head, train_bias = ctx.needs_input_grad[1:3]
        grad_head = torch.zeros_like(original, dtype=torch.float32) if train_head else None
        grad_bias = torch.zeros(len(head), device=head.device) if train_bias else None
        for part, index, weight, grad in zip(
            *(tensor.split(size) for tensor in (hidden, targets, weights, grad_hidden)),
            strict=True,
        ):
            logits = buffer[: len(part)]
            torch.mm(part, head.t(), out=logits)
            if bias is not None:
                logits += bias
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


def _turn_to_slopes(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Overwrites logits by the loss's gradient with respect to them; returns log-probabilities."""
    found = []
    for few, index, weight in zip(
        logits.split(_CACHED), targets.split(_CACHED), weights.split(_CACHED), strict=True
    ):
        column = index.unsqueeze(1)
        scores = few.float()
        scores.sub_(scores.amax(1, keepdim=True))
        chosen = scores.gather(1, column)
        sums = scores.exp_().sum(1, keepdim=True)
        found.append((chosen - sums.log()).squeeze(1))
        scores.scatter_add_(1, column, -sums)
        few.copy_(scores.mul_(weight.unsqueeze(1) / sums))
    return torch.cat(found)
