"""Checklist scores of a row: nine items, and their weighted mean.

The items are those of the Qwen2.5-Coder technical report, section 4.1. A judge gives the scores;
this module only reads them. What was not scored has no score: nothing is ever imputed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from align.errors import InputError
from align.settings import CHECKLIST, QualitySettings


def read_checklist(value: Any) -> dict[str, float | None] | None:
    """Returns a row's nine scores, or None where it has none; an item may be null.

    Raises:
        InputError: The scores are no mapping of the known items to numbers.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InputError("checklist must map items to scores")
    unknown = sorted(set(value) - set(CHECKLIST))
    if unknown:
        raise InputError(
            f"checklist has the unknown item {unknown[0]}; the items are {', '.join(CHECKLIST)}"
        )
    for item, score in value.items():
        number = isinstance(score, int | float) and not isinstance(score, bool)
        if score is not None and not (number and math.isfinite(score)):
            raise InputError(f"checklist.{item} is {score!r}, which is no number")
    scores = {item: value.get(item) for item in CHECKLIST}
    return {item: None if score is None else float(score) for item, score in scores.items()}


def quality_score(
    checklist: Mapping[str, float | None] | None, settings: QualitySettings
) -> float | None:
    """Returns the weighted mean of a row's scores, on the scale of the scores.

    It is s = (w1 s1 + ... + wn sn) / (w1 + ... + wn); the division keeps `min_score` on the scale
    of the items whatever the weights are. None where an item that has a weight was not scored.
    """
    weights = {item: weight for item, weight in settings.weights.items() if weight > 0}
    scores = {item: (checklist or {}).get(item) for item in weights}
    found = {item: score for item, score in scores.items() if score is not None}
    if len(found) < len(weights):
        return None
    return sum(weights[item] * score for item, score in found.items()) / sum(weights.values())
