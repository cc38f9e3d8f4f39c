"""How much each token of a pair's answers counts in the preference loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from align.dpo.pairs import TokenPair
from align.settings import DpoSettings


@dataclass(frozen=True)
class TokenWeights:
    """Weights of a pair's tokens.

    Attributes:
        chosen: One for each token of the chosen answer.
        rejected: One for each token of the rejected answer.
        counted: Tokens of the chosen and of the rejected answer that losses a token divide by.
    """

    chosen: list[float]
    rejected: list[float]
    counted: tuple[int, int]


def token_weights(
    pair: TokenPair, settings: DpoSettings, tokenizer: PreTrainedTokenizerBase
) -> TokenWeights:
    """Returns the weights that the settings give a pair's tokens.

    - `target` (Target-DPO, arXiv:2503.02783): of the rejected answer only the lines count that are
      in no longest common subsequence with the chosen one's; the chosen answer counts in full.
    - `focused` (Focused-DPO, arXiv:2502.11475): between what both answers begin and end with lies
      where they differ; there a token counts `focus` times. The rejected answer's tokens behind it
      do not count.
    - `mask_end`: the end tokens do not count (arXiv:2407.21783, section 4.1.4; headers are never
      among the labels).
    - `ld_alpha` (LD-DPO, arXiv:2409.06411): tokens behind the shorter answer's length count so
      much.
    """
    chosen = [1.0] * len(pair.chosen_ids)
    rejected = [1.0] * len(pair.rejected_ids)
    if settings.weighting == "target":
        rejected = _own_lines(pair, tokenizer)
    elif settings.weighting == "focused":
        chosen, rejected = _focused(pair, settings.focus)
    if settings.mask_end:
        chosen[-1] = rejected[-1] = 0.0
    counted = (sum(map(bool, chosen)), sum(map(bool, rejected)))
    if settings.ld_alpha is not None:
        shorter = min(len(chosen), len(rejected))
        for side in (chosen, rejected):
            side[shorter:] = [settings.ld_alpha * weight for weight in side[shorter:]]
    return TokenWeights(chosen, rejected, counted)


def _focused(pair: TokenPair, focus: float) -> tuple[list[float], list[float]]:
    chosen, rejected = pair.chosen_ids, pair.rejected_ids
    before = _equal(chosen, rejected)
    behind = _equal(chosen[before:][::-1], rejected[before:][::-1])
    return (
        [1.0] * before + [focus] * (len(chosen) - before - behind) + [1.0] * behind,
        [1.0] * before + [focus] * (len(rejected) - before - behind) + [0.0] * behind,
    )


def _equal(first: Sequence[int], second: Sequence[int]) -> int:
    """Returns with how many equal tokens two answers begin."""
    pairs = enumerate(zip(first, second, strict=False))
    shorter = min(len(first), len(second))
    return next((place for place, (one, other) in pairs if one != other), shorter)


def _own_lines(pair: TokenPair, tokenizer: PreTrainedTokenizerBase) -> list[float]:
    chosen, rejected = (_lines(ids, tokenizer) for ids in (pair.chosen_ids, pair.rejected_ids))
    common = _common_subsequence(chosen, rejected)
    return [0.0 if number in common else 1.0 for number, line in enumerate(rejected) for _ in line]


def _lines(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, ...]]:
    """Splits an answer behind every token that holds a line's end."""
    lines: list[tuple[int, ...]] = []
    start = 0
    for place, token in enumerate(ids, 1):
        if "\n" in tokenizer.decode([token]) or place == len(ids):
            lines.append(tuple(ids[start:place]))
            start = place
    return lines


def _common_subsequence(
    first: Sequence[tuple[int, ...]], second: Sequence[tuple[int, ...]]
) -> set[int]:
    """Returns which lines of the second are in a longest common subsequence of both."""
    # longest[i][j]: length of that of first[i:] and second[j:]
    longest = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i in reversed(range(len(first))):
        for j in reversed(range(len(second))):
            longest[i][j] = (
                1 + longest[i + 1][j + 1]
                if first[i] == second[j]
                else max(longest[i + 1][j], longest[i][j + 1])
            )
    found: set[int] = set()
    i = j = 0
    while i < len(first) and j < len(second):
        if first[i] == second[j]:
            found.add(j)
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return found
