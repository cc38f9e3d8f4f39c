"""What `align plan` says of times before anything ran."""

from __future__ import annotations

from align.memory import Shape
from align.pipeline import Instance
from align.plan import _seconds
from align.settings import DpoSettings, SftSettings

MODEL = Shape(parameters=1_000_000, layers=2, hidden=8, intermediate=16, vocabulary=64)


def seconds(settings: SftSettings | DpoSettings, rows: int = 1000) -> float:
    return _seconds(Instance("sft.mixed", "sft", "", settings, {}), MODEL, 1e9, rows, 0)


def test_a_stage_takes_as_long_as_the_tokens_that_it_is_cut_to() -> None:
    shares = {"data": 0.5, "fim": 0.5}
    whole = seconds(SftSettings(mix=shares, mix_by="tokens"))
    cut = seconds(SftSettings(mix=shares, mix_by="tokens", max_tokens=1600))
    assert cut < whole
    assert cut == seconds(SftSettings(max_rows=10)), "160 tokens a row"
    twice = seconds(SftSettings(mix=shares, mix_by="tokens", max_tokens=1600, epochs=2.0))
    assert twice == seconds(SftSettings(max_rows=20))


def test_a_preference_stage_takes_as_long_as_its_pairs() -> None:
    assert seconds(DpoSettings(), 12) < seconds(DpoSettings(), 100)
    assert seconds(DpoSettings(max_pairs=12), 100) == seconds(DpoSettings(), 12)
