"""References: computed once, found again by every run that may, refused to all others."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.artifacts import shard_paths
from align.attention import keep_rows_apart
from align.dpo import reference
from align.dpo.pairs import TokenPair
from align.dpo.reference import cache_folder, reference_identity, reference_log_probs
from align.errors import ArtifactError
from align.losses import add_loss_head
from tests.conftest import RecordingContext
from tests.tiny import build_tiny_model
from tests.training_context import QuietContext, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


PAIRS = [
    TokenPair(str(n), [20 + n // 2, 21, 22], [30, 31, n + 40, 2], [30, 31 + n, 2]) for n in range(6)
]


def load(folder: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    keep_rows_apart(model)
    add_loss_head(model)
    return model, AutoTokenizer.from_pretrained(folder)


def ask(folder: Path, pairs: list[TokenPair], **changes: Any) -> tuple[dict[str, Any], int]:
    """The references, and how many were computed for it."""
    model, tokenizer = load(folder)
    tokenizer.chat_template += changes.get("template", "")
    owner = reference_identity(folder, tokenizer, changes.get("dtype", "float32"), quantised=False)
    context = RecordingContext()
    found = reference_log_probs(model, pairs, owner, context, share=True)
    ((event, fields),) = context.events
    assert event == "references"
    assert fields["cached"] + fields["computed"] == len(pairs)
    return found, fields["computed"]


def test_they_are_the_log_probabilities_of_the_model_alone(folder: Path) -> None:
    found, _ = ask(folder, PAIRS)
    model, _ = load(folder)
    for pair in PAIRS:
        for ids, values in zip((pair.chosen_ids, pair.rejected_ids), found[pair.key], strict=True):
            whole = torch.tensor([[*pair.prompt_ids, *ids]])
            logits = model(input_ids=whole).logits[0].detach().log_softmax(-1)
            start = len(pair.prompt_ids)
            expected = [float(logits[start + n - 1, token]) for n, token in enumerate(ids)]
            assert values == pytest.approx(expected, abs=1e-5)


def test_only_pairs_that_are_new_are_computed(folder: Path) -> None:
    first, computed = ask(folder, PAIRS[:4])
    assert computed == 4
    again, computed = ask(folder, PAIRS[3::-1])
    assert (again, computed) == (first, 0)
    more, computed = ask(folder, PAIRS)
    assert computed == 2
    assert {key: more[key] for key in first} == first


def test_a_killed_computation_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_PASS_TOKENS", 14)  # one pair a pass
    score, calls = reference.label_scores, 0

    def score_or_die(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return score(*args)

    with monkeypatch.context() as patched:
        patched.setattr(reference, "label_scores", score_or_die)
        with pytest.raises(KeyboardInterrupt):
            ask(folder, PAIRS)
    _, computed = ask(folder, PAIRS)
    assert computed == 3


def test_another_template_type_or_weights_finds_nothing(folder: Path, tmp_path: Path) -> None:
    ask(folder, PAIRS)
    assert ask(folder, PAIRS, template="{# changed #}")[1] == len(PAIRS)
    assert ask(folder, PAIRS, dtype="bfloat16")[1] == len(PAIRS)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    assert ask(other, PAIRS)[1] == 0, "a copy of the same weights is the same reference"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.get_input_embeddings().weight.data[5] += 0.1
    model.save_pretrained(other)
    found, computed = ask(other, PAIRS)
    assert computed == len(PAIRS)
    assert found != ask(folder, PAIRS)[0]


def test_the_same_weights_under_another_config_are_another_reference(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    plain, _ = ask(folder, PAIRS)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"transformers_version": "0.1"}))
    assert ask(other, PAIRS) == (plain, 0)
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    found, computed = ask(other, PAIRS)
    assert computed == len(PAIRS)
    assert found != plain


def test_references_of_another_template_are_refused_under_a_folder_s_name(
    folder: Path, cache: Path
) -> None:
    ask(folder, PAIRS)
    (old,) = (path for path in cache.iterdir() if path.is_dir())
    kept = cache.parent / "kept"
    old.rename(kept)
    ask(folder, PAIRS, template="{# changed #}")
    (new,) = (path for path in cache.iterdir() if path.is_dir())
    shutil.rmtree(new)
    kept.rename(new)
    with pytest.raises(ArtifactError, match="other settings or inputs"):
        ask(folder, PAIRS, template="{# changed #}")


def test_the_cache_is_bounded_and_what_was_used_last_stays(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ["float32", "bfloat16", "float16"]
    places = {}
    for age, kind in enumerate(kinds):
        before = {path.name for path in cache.glob("*") if path.is_dir()}
        ask(folder, PAIRS, dtype=kind)
        (places[kind],) = (p for p in cache.iterdir() if p.is_dir() and p.name not in before)
        os.utime(places[kind], (age, age))
    size = sum(file.stat().st_size for file in places["float32"].iterdir())
    monkeypatch.setattr(reference, "_MOST_BYTES", int(2.5 * size))
    ask(folder, PAIRS, dtype="float32")  # the oldest, but in use
    assert {kind for kind in kinds if places[kind].exists()} == {"float32", "float16"}
    assert shard_paths(places["float32"])


def test_a_sweep_computes_the_references_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "pairs.jsonl"
    rows = [
        {
            "prompt": [{"role": "user", "content": f"return {number}"}],
            "chosen": [{"role": "assistant", "content": f"return {number}"}],
            "rejected": [{"role": "assistant", "content": "return x"}],
        }
        for number in range(6)
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    inputs = {"model": folder, "pairs": table}

    def computed(context: QuietContext) -> list[int]:
        return [fields["computed"] for event, fields in context.events if event == "references"]

    _, first = train("dpo", {}, inputs, tmp_path / "first")
    assert computed(first) == [6]
    for number, change in enumerate(
        [
            {"beta": 0.5},
            {"learning_rate": 1e-4},
            {"loss": "ipo"},
            {"weighting": "focused"},
            {"max_pairs": 3},
            {"held_out": 0.5, "eval_steps": 1},
        ]
    ):
        _, context = train("dpo", change, inputs, tmp_path / str(number))
        assert computed(context) == [0], change
