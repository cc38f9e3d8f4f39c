"""In which order pairs are drawn when the pairs of a prompt are to stand together."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

from torch.utils.data import Sampler


class PromptOrder(Sampler[int]):
    """Draws prompts in a random order, and the pairs of each one after another.

    A pass that holds several pairs of a prompt computes the prompt once, and an answer that stands
    in two of them, too.

    Args:
        prompts: The prompt of each pair of the dataset; equal ones are one prompt.
        seed: Decides the order, with the number of the epoch.
    """

    def __init__(self, prompts: Sequence[Hashable], seed: int) -> None:
        """Collects the pairs of each prompt."""
        groups: defaultdict[Hashable, list[int]] = defaultdict(list)
        for number, prompt in enumerate(prompts):
            groups[prompt].append(number)
        self._groups = list(groups.values())
        self._count = len(prompts)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses another order; the trainer calls it before every epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return self._count

    def __iter__(self) -> Iterator[int]:
        """Yields the number of each pair once."""
        chooser = random.Random(f"{self._seed}:{self._epoch}")
        for group in chooser.sample(self._groups, len(self._groups)):
            yield from chooser.sample(group, len(group))
