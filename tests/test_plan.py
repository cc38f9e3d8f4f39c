"""What `align plan` says of times before anything ran."""

from __future__ import annotations

from pathlib import Path

from transformers import GPT2Config, GPT2LMHeadModel

from align.dpo.pairs import TokenPair
from align.dpo.stage import _largest_pass
from align.memory import (
    Shape,
    _reclaimable,
    most_tokens,
    needs_checkpointing,
    shape_of,
    training_bytes,
)
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


def test_the_shape_of_a_family_that_names_it_otherwise_is_read(tmp_path: Path) -> None:
    config = GPT2Config(n_embd=16, n_layer=3, n_head=2, vocab_size=64)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    shape = shape_of(tmp_path)
    assert (shape.layers, shape.hidden, shape.intermediate, shape.vocabulary) == (3, 16, 64, 64)


def test_a_preference_stage_takes_as_long_as_its_pairs() -> None:
    assert seconds(DpoSettings(), 12) < seconds(DpoSettings(), 100)
    assert seconds(DpoSettings(max_pairs=12), 100) == seconds(DpoSettings(), 12)


def test_layers_are_computed_twice_by_the_rows_at_hand_and_not_by_the_longest_allowed() -> None:
    settings = DpoSettings(batch_pairs=8, max_length=640)
    assert most_tokens(settings) == 2 * 8 * 640
    free = 2 * training_bytes(MODEL, settings, False, 1000)
    assert not needs_checkpointing(MODEL, settings, free, 1000)
    assert needs_checkpointing(MODEL, settings, free, 10 * most_tokens(settings))


def test_files_that_the_kernel_keeps_are_free_memory(tmp_path: Path) -> None:
    facts = tmp_path / "memory.stat"
    assert _reclaimable(facts) == 0
    facts.write_text("anon 12\nfile 9000\ninactive_file 7000\n")
    assert _reclaimable(facts) == 7000
    facts.write_text("inactive_file 5\ntotal_inactive_file 70\n")
    assert _reclaimable(facts) == 70


def test_the_largest_pass_of_pairs_holds_the_longest_ones() -> None:
    pairs = [TokenPair(str(n), [1] * n, [2] * n, [3] * (n + 1)) for n in (1, 9, 5)]
    assert _largest_pass(pairs, DpoSettings(batch_pairs=2)) == (4 * 9 + 1) + (4 * 5 + 1)
    assert _largest_pass(pairs, DpoSettings(batch_pairs=9)) == 4 * 15 + 3
    padded = DpoSettings(batch_pairs=2, loss="kto")
    assert _largest_pass(pairs, padded) == 2 * 2 * (9 + 10)
