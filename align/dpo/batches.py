"""From pairs to packed passes that carry what the loss needs of each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset

from align.chat import IGNORED
from align.dpo.pairs import TokenPair
from align.dpo.weights import TokenWeights
from align.errors import TrainingError
from align.packing import pack

#: Log-probabilities under the reference of a pair's chosen and rejected tokens, in nats.
Reference = tuple[Sequence[float], Sequence[float]]


def dataset(
    pairs: Sequence[TokenPair],
    weights: Sequence[TokenWeights],
    references: Mapping[str, Reference],
) -> Dataset:
    """Returns the pairs with their weights and reference log-probabilities.

    Raises:
        TrainingError: The references lack a pair, or some of its tokens.
    """
    rows = []
    for pair, weight in zip(pairs, weights, strict=True):
        reference = references.get(pair.key)
        lengths = (len(pair.chosen_ids), len(pair.rejected_ids))
        if reference is None or (len(reference[0]), len(reference[1])) != lengths:
            raise TrainingError(
                f"the reference log-probabilities lack the pair {pair.pair_id}, or some of its "
                "tokens: delete the cache of references (`code-align/references` in the user's "
                "cache folder), and run again"
            )
        rows.append(
            {
                "prompt_ids": pair.prompt_ids,
                "chosen_ids": pair.chosen_ids,
                "rejected_ids": pair.rejected_ids,
                "chosen_weights": weight.chosen,
                "rejected_weights": weight.rejected,
                "chosen_counted": weight.counted[0],
                "rejected_counted": weight.counted[1],
                "chosen_reference": list(reference[0]),
                "rejected_reference": list(reference[1]),
            }
        )
    return Dataset.from_list(rows)


def pack_pairs(pairs: Sequence[Mapping[str, Any]], *, share: bool) -> dict[str, Any]:
    """Packs pairs: all chosen rows first, then all rejected ones; labels on the answers.

    What a pair's answers begin with is computed once, like what several prompts begin with.

    Args:
        pairs: Rows with `prompt_ids`, `chosen_ids` and `rejected_ids`.
        share: See `align.packing.pack`.
    """
    return pack(
        [
            (
                [*pair["prompt_ids"], *pair[f"{side}_ids"]],
                [*([IGNORED] * len(pair["prompt_ids"])), *pair[f"{side}_ids"]],
            )
            for side in ("chosen", "rejected")
            for pair in pairs
        ],
        share=share,
    )


def collate(pairs: Sequence[Mapping[str, Any]], *, share: bool) -> dict[str, Any]:
    """Packs rows of `dataset` into one pass.

    Returns:
        A pass as `pack_pairs` makes it; `weights` and `reference`, of shape (labels,), in its order
        of labels; and `counted`, of shape (2 pairs,), the tokens of each row that count.
    """

    def all_of(name: str) -> list[float]:
        sides = ("chosen", "rejected")
        return [value for side in sides for pair in pairs for value in pair[f"{side}_{name}"]]

    counted = [pair[f"{side}_counted"] for side in ("chosen", "rejected") for pair in pairs]
    return pack_pairs(pairs, share=share) | {
        "weights": torch.tensor(all_of("weights"), dtype=torch.float32),
        "reference": torch.tensor(all_of("reference"), dtype=torch.float32),
        "counted": torch.tensor(counted, dtype=torch.float32),
    }
