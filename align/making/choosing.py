"""Which calls become a task's tests: the fewest that tell the right program from wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """The calls that were chosen.

    Attributes:
        calls: Their numbers, the example's own first.
        told: Share of the wrong programs that fail at least one of them.
    """

    calls: Sequence[int]
    told: float


def choose_calls(failing: Sequence[frozenset[int]], usable: Sequence[int], count: int) -> Choice:
    """Returns `count` calls: the first usable one, then those that tell the most wrong programs.

    Args:
        failing: Of each wrong program the calls that it fails.
        usable: Numbers of the calls that may be chosen, the example's own first; not empty.
        count: How many are wanted; fewer where there are no more.
    """
    chosen = [usable[0]]
    left = [fails for fails in failing if usable[0] not in fails]
    while len(chosen) < min(count, len(usable)):
        rest = [call for call in usable if call not in chosen]
        best = max(rest, key=lambda call: (sum(call in fails for fails in left), -call))
        chosen.append(best)
        left = [fails for fails in left if best not in fails]
    told = 1 - len(left) / len(failing) if failing else 0.0
    return Choice(sorted(chosen), told)
