"""The processes of one training, as `torchrun` and `accelerate launch` start them.

All of them run the same command. The first one writes; the others only train along.
"""

from __future__ import annotations

import os

from align.errors import RecipeError

PARALLEL = frozenset({"dpo"})
"""Stages that train in several processes."""


def world_size() -> int:
    """Returns how many processes were started together; one where nothing says so."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Tells whether this process is the one that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def refuse_several(what: str) -> None:
    """Refuses work that several processes would do on top of one another.

    Raises:
        RecipeError: There are several.
    """
    if world_size() > 1:
        raise RecipeError(
            f"{what} runs in one process, and {world_size()} were started (WORLD_SIZE): start it "
            "by itself; only `align dpo` trains in several"
        )
