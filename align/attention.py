"""Attention over a packed pass: each segment sees its own path and nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.utils.import_utils import is_flash_attn_2_available

from align.errors import TrainingError
from align.packing import Layout

PACKED = "align_packed"
"""Name of this attention for `attn_implementation`."""
#: Layers that keep rows apart under each of the attentions.
_ATTENTIONS = {"full_attention", "sliding_attention", "chunked_attention"}

_FEW_SCORES = 1 << 16
"""Scores of a head up to which they are kept for the way back: a megabyte or two for all heads."""


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attends segment by segment, so that no score between two rows is ever computed.

    Args:
        module: The model's attention layer.
        query: Shape (1, heads, tokens, head size).
        key: Shape (1, key-value heads, tokens, head size).
        value: As `key`.
        attention_mask: Used where there is no layout.
        scaling: Factor on the scores.
        dropout: Share of the scores that is dropped.
        layout: The pass's segments; without it this is transformers' `sdpa`.
        **kwargs: What other attention functions take.

    Returns:
        The output, of shape (1, tokens, heads, head size), and no weights.
    """
    if layout is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output, None
    groups = query.shape[1] // key.shape[1]
    queries, keys, values = (part.split(layout.lengths, dim=2) for part in (query, key, value))
    outputs = []
    for segment, path in enumerate(layout.paths):
        alone = len(path) == 1
        seen_keys = keys[segment] if alone else torch.cat([keys[n] for n in path], dim=2)
        seen_values = values[segment] if alone else torch.cat([values[n] for n in path], dim=2)
        own, seen = queries[segment].shape[2], seen_keys.shape[2]
        if own * seen <= _FEW_SCORES and not dropout:
            mask = layout.mask(segment, query.device)
            output = _attend(queries[segment], seen_keys, seen_values, mask, scaling)
        else:
            output = functional.scaled_dot_product_attention(
                queries[segment],
                seen_keys.repeat_interleave(groups, dim=1),
                seen_values.repeat_interleave(groups, dim=1),
                attn_mask=None if alone else layout.mask(segment, query.device).to(query.dtype),
                is_causal=alone,
                dropout_p=dropout,
                scale=scaling,
            )
        outputs.append(output.transpose(1, 2))
    return torch.cat(outputs, dim=1), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float | None,
) -> torch.Tensor:
    """Attends by plain products in float32: for few scores a third of the fused kernel's time.

    Query heads that share a key head stand behind one another, so that keys are not repeated.
    """
    _, heads, own, size = query.shape
    shared = key.shape[1]
    groups = heads // shared
    scores = torch.baddbmm(
        mask.repeat(groups, 1).unsqueeze(0),
        query.reshape(shared, groups * own, size).float(),
        key[0].float().transpose(1, 2),
        alpha=size**-0.5 if scaling is None else scaling,
    )
    output = torch.softmax(scores, dim=-1) @ value[0].float()
    return output.to(query.dtype).view(1, heads, own, size)


AttentionInterface.register(PACKED, packed_attention)


def keep_rows_apart(model: PreTrainedModel, halves: bool = True) -> bool:
    """Sets the attention under which a model is trained on packed rows.

    All of them keep rows apart: ours by segments, the others by the positions, which start again at
    every row. A GPU is better served by one kernel than by a call for each segment.

    Args:
        model: The model.
        halves: Whether products are computed in 16 bits, without which flash attention can't be.

    Returns:
        Whether rows of a pass may share what they begin with: only our attention can.

    Raises:
        TrainingError: The model has layers of another kind, through which rows see each other.
    """
    other = sorted(set(getattr(model.config, "layer_types", None) or ()) - _ATTENTIONS)
    if other or getattr(model, "_is_stateful", False):
        raise TrainingError(
            f"{type(model).__name__} mixes a row's tokens by other layers than attention "
            f"({', '.join(other) or 'recurrent ones'}), which would mix rows that are packed "
            "together, too: such a model can't be trained here"
        )
    name = _choose(model.config, halves)
    model.set_attn_implementation(name)
    return name == PACKED


def _choose(config: PretrainedConfig, halves: bool) -> str:
    sliding = getattr(config, "sliding_window", None) and getattr(
        config, "use_sliding_window", True
    )
    if not torch.accelerator.is_available() and not sliding:
        return PACKED
    return "flash_attention_2" if halves and is_flash_attn_2_available() else "sdpa"
