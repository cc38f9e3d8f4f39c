"""The whole answer of a sample, as whoever trains on it reads it."""

from __future__ import annotations

from align.artifacts import Row

_FENCE = "```"


def whole_answer(sample: Row) -> str:
    """Returns a sample's text with what it was made to begin with; a block it was stopped in ends.

    Whoever is trained on it learns to end where the stop texts of its form end an answer. An answer
    that the model itself ended is left as it is.
    """
    begun: str = sample.get("prefill") or ""
    answer = f"{begun}{sample['text']}"
    stops = (sample.get("sampler") or {}).get("stop") or ()
    fences = sum(line.lstrip().startswith(_FENCE) for line in answer.split("\n"))
    if begun and fences % 2 and sample.get("stop_reason") in stops:
        return f"{answer.rstrip()}\n{_FENCE}"
    return answer
