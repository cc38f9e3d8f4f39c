"""Losses of preference optimisation, as functions of the answers' log-ratios to the reference."""

from __future__ import annotations

import torch
from torch.nn import functional

from align.settings import PreferenceLoss


def preference_losses(
    kind: PreferenceLoss,
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    lengths: torch.Tensor,
    beta: float,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Returns the loss of each pair, of shape (pairs,).

    With m the difference of the two log-ratios, and the same a token where lengths count:

    - sigmoid: -log s(beta m); DPO, arXiv:2305.18290, eq. 7.
    - robust: unbiased where a share e of the labels is flipped, arXiv:2403.00409, eq. 14:
      (-(1 - e) log s(beta m) + e log s(-beta m)) / (1 - 2e).
    - ipo: (m a token - 1 / 2 beta)^2, arXiv:2310.12036, eq. 17.
    - hinge: max(0, 1 - beta m), as in SLiC, arXiv:2305.10425.
    - sigmoid_norm: -log s(beta m a token), as in Tulu 3, arXiv:2411.15124, section 5.

    Args:
        kind: Which of them.
        chosen: Log-ratios (policy over reference, nats) of the chosen answers, shape (pairs,).
        rejected: Those of the rejected answers.
        lengths: Tokens that count, of the chosen and then the rejected answers, shape (2 pairs,).
        beta: Strength of the pull to the reference; for ipo its regularisation, tau.
        smoothing: The share e of the robust loss.
    """
    margins = chosen - rejected
    if kind in ("ipo", "sigmoid_norm"):
        chosen_length, rejected_length = lengths.clamp(min=1).chunk(2)
        margins = chosen / chosen_length - rejected / rejected_length
    if kind == "ipo":
        return (margins - 1 / (2 * beta)) ** 2
    if kind == "hinge":
        return torch.relu(1 - beta * margins)
    if kind == "robust":
        right, wrong = functional.logsigmoid(beta * margins), functional.logsigmoid(-beta * margins)
        return (smoothing * wrong - (1 - smoothing) * right) / (1 - 2 * smoothing)
    return -functional.logsigmoid(beta * margins)
