"""Which calls become a task's tests: the fewest that tell the right program from wrong ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def choose_calls(
    failing: Sequence[frozenset[int]], returned: Mapping[int, str], count: int
) -> Choice:
    """Returns `count` calls: the first, then those that tell the most wrong programs.

    The second returns another value than the first, and of calls that tell equally many one with a
    new value goes before: a program that always returns one value is wrong, too.

    Args:
        failing: Of each wrong program the calls that it fails.
        returned: What the right program returns, by the number of each call that may be chosen; the
            example's own is the first of them.
        count: How many are wanted; fewer where there are no more.
    """
    chosen: list[int] = []
    left = list(failing)
    rest = list(returned)
    while rest and len(chosen) < count:
        seen = {returned[call] for call in chosen}
        new = [call for call in rest if returned[call] not in seen]
        open_ = new if len(seen) == 1 and new else rest
        told = {call: sum(call in fails for fails in left) for call in open_}
        best = max(open_, key=lambda call: (told[call], call in new, -call)) if chosen else rest[0]
        chosen.append(best)
        rest.remove(best)
        left = [fails for fails in left if best not in fails]
    return Choice(sorted(chosen), 1 - len(left) / len(failing) if failing else 0.0)
