"""Each alert on a run, or on figures, that deserve it; early stop; what samples show."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from align.attention import keep_rows_apart
from align.dpo.pairs import TokenPair, hold_out
from align.dpo.samples import repetition, sample_answers
from align.dpo.watch import alerts, out_of_patience
from align.errors import InputError
from align.lora import lora_config
from align.settings import LoraSettings
from tests.tiny import build_tiny_model
from tests.training_context import train, train_until_killed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def table(path: Path, answers: list[tuple[str, str]]) -> Path:
    rows = [
        {
            "prompt": [{"role": "user", "content": f"return {number}"}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for number, (chosen, rejected) in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def kinds(details: Any) -> list[str]:
    return [alert["kind"] for alert in details["alerts"]]


def test_a_run_that_pushes_both_answers_down_is_warned_of(folder: Path, tmp_path: Path) -> None:
    chooser = random.Random(3)
    words = [
        "def",
        "return",
        "value",
        "count",
        "total",
        "index",
        "word",
        "step",
        "by",
        "self",
        "longest",
        "number",
    ]

    def some() -> str:
        return " ".join(chooser.choice(words) for _ in range(12))

    # Answers that nothing makes likelier but their own place in the loss, and no anchor.
    answers = [(some(), some()) for _ in range(24)]
    settings = {"learning_rate": 3e-2, "epochs": 3.0, "nll_weight": 0.0, "warmup": 0.0, "beta": 1.0}
    summary, context = train(
        "dpo",
        settings,
        {"model": folder, "pairs": table(tmp_path / "p.jsonl", answers)},
        tmp_path / "o",
    )
    assert "chosen_falls" in kinds(summary.details)
    (warning,) = [each for each in context.warnings if "less likely" in each]
    assert "nll_weight" in warning


@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_a_run_on_pairs_that_a_word_tells_apart_is_warned_of(
    folder: Path, tmp_path: Path, warmup: float
) -> None:
    answers = [("return x", "no idea")] * 20
    settings = {"learning_rate": 4e-3, "warmup": warmup, "epochs": 3.0}
    summary, context = train(
        "dpo",
        settings,
        {"model": folder, "pairs": table(tmp_path / "p.jsonl", answers)},
        tmp_path / "o",
    )
    assert "too_easy" in kinds(summary.details)
    assert any("told apart right" in each for each in context.warnings)


def step(number: int, **changes: float) -> dict[str, float]:
    plain = {
        "margin": 0.02 * number,
        "shift_chosen": 0.01 * number,
        "accuracy": 0.7,
        "lr": 1e-5,
    }
    return {"step": number, **plain, **changes}


def test_a_sound_curve_deserves_nothing() -> None:
    steps = [step(number) for number in range(1, 40)]
    samples = [
        {"step": number, "length": 100 + number, "repetition": 0.1} for number in range(0, 40, 10)
    ]
    assert alerts(steps, samples, 4) == []


def test_alerts_on_figures_name_the_step_that_first_deserved_them() -> None:
    falling = [step(number, shift_chosen=-0.02 * number) for number in range(1, 20)]
    (alert,) = alerts(falling, [], 4)
    assert (alert.kind, alert.step) == ("chosen_falls", 8)  # mean of steps 4 to 8: -0.12
    assert alerts([point | {"margin": -1.0} for point in falling], [], 4) == []

    easy = [step(1, accuracy=0.0), *(step(number, accuracy=1.0) for number in range(2, 20))]
    (alert,) = alerts(easy, [], 4)
    assert (alert.kind, alert.step) == ("too_easy", 5)  # 16 pairs after the first step
    # A warmup's first steps change nothing: what rounding makes of equal answers is no accuracy.
    warming = [step(0, accuracy=0.5, lr=0.0), step(1, accuracy=0.25, lr=0.0)]
    warming += [each | {"step": each["step"] + 2} for each in easy]
    (alert,) = alerts(warming, [], 4)
    assert (alert.kind, alert.step) == ("too_easy", 7)
    assert alerts([each | {"lr": 0.0} for each in easy], [], 4) == []
    easy[3]["accuracy"] = 0.75
    assert alerts(easy, [], 4) == []


def test_longer_and_repeating_samples_are_warned_of() -> None:
    samples = [
        {"step": 0, "length": 50.0, "repetition": 0.05},
        {"step": 10, "length": 60.0, "repetition": 0.15},
        {"step": 20, "length": 70.0, "repetition": 0.4},
    ]
    found = alerts([], samples, 4)
    assert {(alert.kind, alert.step) for alert in found} == {("longer", 20), ("repeats", 20)}
    assert any("from 50 to 70 tokens" in alert.message for alert in found)
    # An answer that was long, or went round, before training did is no news.
    assert alerts([], [{"step": 0, "length": 60.0, "repetition": 0.3}, *samples[1:]], 4) == []


def test_a_run_whose_answers_grow_and_go_in_circles_is_warned_of(
    folder: Path, tmp_path: Path
) -> None:
    settings = {
        "lora": None,
        "learning_rate": 5e-3,
        "epochs": 12.0,
        "warmup": 0.0,
        "held_out": 0.3,
        "eval_steps": 12,
        "watch_samples": 2,
        "watch_tokens": 64,
        "nll_weight": 1.0,
        "dtype": "float32",
    }
    summary, context = train(
        "dpo",
        settings,
        {"model": folder, "pairs": table(tmp_path / "p.jsonl", [("count " * 30, "x")] * 16)},
        tmp_path / "o",
    )
    assert {"longer", "repeats"} <= set(kinds(summary.details))
    assert sum("sampled answers" in each for each in context.warnings) == 2
    seen = summary.details["samples"]
    assert [point["step"] for point in seen] == [0, 12, 24, 36]
    logged = [fields for event, fields in context.events if event == "samples"]
    assert logged == seen


def test_the_distance_from_the_reference_grows_from_zero(folder: Path, tmp_path: Path) -> None:
    settings = {
        "learning_rate": 1e-2,
        "epochs": 2.0,
        "held_out": 0.3,
        "eval_steps": 5,
        "watch_samples": 2,
        "watch_tokens": 32,
        "dtype": "float32",
    }
    pairs = table(tmp_path / "p.jsonl", [("return x", "no idea")] * 16)
    summary, _ = train("dpo", settings, {"model": folder, "pairs": pairs}, tmp_path / "o")
    first, *_, last = summary.details["samples"]
    assert first["kl"] == pytest.approx(0.0, abs=1e-4)
    assert last["kl"] > 0.01


@pytest.mark.parametrize(("save_steps", "point"), [(3, "step:5"), (2, "merging")])
def test_training_stops_when_held_out_pairs_gain_nothing(
    folder: Path, tmp_path: Path, save_steps: int, point: str
) -> None:
    # What is held out is the other way round, so that training makes it worse.
    prompts = [TokenPair(str(n), [n], [1], [2]) for n in range(4)]
    assert hold_out(prompts, 0.0) == (prompts, [])
    answers = [("return x", "no idea")] * 16
    inputs = {"model": folder, "pairs": table(tmp_path / "p.jsonl", answers)}
    settings = {
        "learning_rate": 1e-2,
        "epochs": 20.0,
        "batch_pairs": 2,
        "accumulate": 1,
        "held_out": 0.3,
        "eval_steps": 2,
        "patience": 2,
        "save_steps": save_steps,
        "dtype": "float32",
    }
    summary, context = train("dpo", settings, inputs, tmp_path / "o")
    details, counts = summary.details, summary.counts
    assert counts["pairs"] + counts["held_out"] == 16
    assert details["stopped_early"]
    assert counts["steps"] < 20 * counts["pairs"] / 2
    losses = [point["loss"] for point in details["held_out"]]
    assert out_of_patience(losses, 2)
    assert not out_of_patience(losses[:-1], 2)
    assert any("has not fallen" in note for note in context.notes)
    train_until_killed([point], "dpo", settings, inputs, tmp_path / "killed")
    resumed, _ = train("dpo", settings, inputs, tmp_path / "killed")
    assert resumed.details == details
    assert resumed.content_sha == summary.content_sha


def test_patience_counts_looks_without_a_lower_loss() -> None:
    assert not out_of_patience([3.0, 2.0, 2.5, 1.9], 2)
    assert out_of_patience([3.0, 2.0, 2.5, 2.0], 2)
    assert not out_of_patience([3.0, 4.0], 2)
    assert not out_of_patience([1.0, 2.0, 3.0, 4.0], None)


def test_pairs_of_one_prompt_are_held_out_together() -> None:
    pairs = [TokenPair(str(n), [n // 3, 7], [n], [n + 1]) for n in range(300)]
    trained, watched = hold_out(pairs, 0.2)
    assert len(trained) + len(watched) == 300
    assert 30 <= len(watched) <= 90
    assert not {p.prompt_ids[0] for p in trained} & {p.prompt_ids[0] for p in watched}
    assert hold_out(pairs[::-1], 0.2)[1] == watched[::-1]
    with pytest.raises(InputError, match="held_out"):
        hold_out(pairs[:3], 0.01)


def test_repetition_counts_pieces_said_before() -> None:
    assert repetition([1, 2, 3, 4, 5, 6, 7, 8]) == 0.0
    assert repetition([1, 2, 3]) == 0.0
    assert repetition([1] * 13) == pytest.approx(0.9)


def test_samples_are_the_same_for_the_same_weights_and_leave_the_random_state(
    folder: Path,
) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    keep_rows_apart(model)
    policy = get_peft_model(model, lora_config(LoraSettings()))
    policy.train()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    found = [sample_answers(policy, [[5, 6, 7], [8]], 12, end=2, seed=3) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0].keys() == {"length", "repetition", "kl"}
    assert found[0]["kl"] == 0.0
    assert 1 <= found[0]["length"] <= 12
    assert torch.equal(torch.get_rng_state(), state)
    assert policy.training
    assert "kl" not in sample_answers(model, [[5]], 4, end=2, seed=3)
    other = sample_answers(policy, [[5]], 4, end=2, seed=3, starts_at_reference=False)
    assert "kl" not in other, "the model without its adapter is not the reference"
