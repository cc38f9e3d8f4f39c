"""Checks that every reader of training rows makes, wherever the rows come from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from align.errors import InputError


def text_fault(text: str) -> str | None:
    """Returns what is wrong with a text that can't be written as UTF-8, or None."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"is no Unicode text: half a character at {error.start}"
    return None


def row_weight(row: Mapping[str, Any]) -> float:
    """Returns a row's own factor on the loss of its tokens; 1 where it has none.

    Raises:
        InputError: It is no positive number.
    """
    weight = row.get("weight")
    if weight is None:
        return 1.0
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight > 0:
        raise InputError(f"weight {weight!r} is no positive number; leave the row out instead")
    try:
        found = float(weight)
    except OverflowError as error:
        raise InputError("the weight is too large") from error
    if not math.isfinite(found):
        raise InputError(f"weight {weight!r} is not finite")
    return found
