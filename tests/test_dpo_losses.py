"""Every loss against stock TRL's trainer on the same rows: the same value, the same gradients."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from align.dpo.batches import collate, dataset
from align.dpo.pairs import TokenPair
from align.dpo.reference import reference_identity, reference_log_probs
from align.dpo.stage import build_trainer
from align.dpo.weights import token_weights
from align.errors import TrainingError
from align.losses import add_loss_head
from align.settings import DpoSettings
from tests.conftest import RecordingContext
from tests.tiny import build_tiny_model

# TRL's names of our settings, with what it needs beside them.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sigmoid": ({}, {"loss_type": ["sigmoid"]}),
    "robust": (
        {"loss": "robust", "label_smoothing": 0.2},
        {"loss_type": ["robust"], "label_smoothing": 0.2},
    ),
    "ipo": ({"loss": "ipo"}, {"loss_type": ["ipo"]}),
    "hinge": ({"loss": "hinge", "beta": 0.4}, {"loss_type": ["hinge"], "beta": 0.4}),
    "sigmoid_norm": (
        {"loss": "sigmoid_norm", "beta": 3.0},
        {"loss_type": ["sigmoid_norm"], "beta": 3.0},
    ),
    "rpo": (
        {"nll_weight": 0.7},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]},
    ),
    "ld": ({"ld_alpha": 0.3}, {"loss_type": ["sigmoid"], "ld_alpha": 0.3}),
    "ld ipo": ({"ld_alpha": 0.5, "loss": "ipo"}, {"loss_type": ["ipo"], "ld_alpha": 0.5}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def make_pairs(last: int = 11) -> list[TokenPair]:
    """Pairs with common beginnings of prompts and of answers, and answers of any length.

    Args:
        last: The last token of what answers begin with.
    """
    chooser = random.Random(0)

    def some(count: int) -> list[int]:
        return [chooser.randrange(10, 590) for _ in range(count)]

    system, begin = some(12), [*some(14), last]
    return [
        TokenPair("a", [*system, *some(5)], [*begin, *some(20), 2], [*begin, *some(4), 2]),
        TokenPair("b", [*system, *some(9)], [*some(3), 2], [*some(30), 2]),
        TokenPair("c", some(4), [*begin, 2], [*begin, *some(2), 2]),
    ]


def roughen(model: torch.nn.Module, scale: float) -> None:
    """Gives the adapter weights, so that policy and reference differ."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            with torch.no_grad():
                parameter.copy_(noise * scale)
            parameter.grad = None
        assert parameter.requires_grad == ("lora_" in name)


def loss_and_gradients(trainer: Any, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    gradients = {
        name: parameter.grad
        for name, parameter in trainer.model.named_parameters()
        if parameter.requires_grad
    }
    return {"loss": loss.detach(), **gradients}


def common(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": "none",
        "max_length": None,
        "remove_unused_columns": False,
    }


def stock(folder: Path, out: Path, pairs: list[TokenPair], options: dict[str, Any]) -> Any:
    """TRL's own trainer, with the tokenised rows put past its templates."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = [{"prompt": "a", "chosen": "b", "rejected": "c"}]  # it insists on preparing some
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=DPOConfig(**common(out), **options),
        train_dataset=Dataset.from_list(words),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
    )
    batch = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id)(
        [
            {name: getattr(p, name) for name in ("prompt_ids", "chosen_ids", "rejected_ids")}
            for p in pairs
        ]
    )
    return trainer, batch


def ours(folder: Path, out: Path, pairs: list[TokenPair], options: dict[str, Any]) -> Any:
    settings = DpoSettings.model_validate({"nll_weight": 0.0, "dtype": "float32"} | options)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    trainer = build_trainer(
        settings, folder, folder, tokenizer, pairs, [], common(out), [], RecordingContext()
    )
    trainer.state.global_step = 1  # policy and reference differ on purpose
    return trainer, trainer.data_collator(list(trainer.train_dataset))


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_stock_trl(folder: Path, tmp_path: Path, kind: str) -> None:
    pairs = make_pairs()
    found = []
    for make, options in zip((ours, stock), KINDS[kind], strict=True):
        trainer, batch = make(folder, tmp_path / make.__name__, pairs, options)
        roughen(trainer.model, 0.05)
        found.append(loss_and_gradients(trainer, batch))
    mine, theirs = found
    assert mine.keys() == theirs.keys()
    assert len(mine) > 14
    for name, expected in theirs.items():
        torch.testing.assert_close(mine[name], expected, atol=1e-5, rtol=1e-5, msg=name)
    assert any(bool(gradient.abs().max() > 1e-3) for gradient in theirs.values())


def test_common_beginnings_of_answers_are_computed_once(folder: Path, tmp_path: Path) -> None:
    _, batch = ours(folder, tmp_path, make_pairs(), {})
    single = sum(
        len(p.prompt_ids) + len(answer) - 1
        for p in make_pairs()
        for answer in (p.chosen_ids, p.rejected_ids)
    )
    prompts, answers, system = 17 + 21 + 4, 15 + 15, 12
    assert batch["input_ids"].shape[1] == single - prompts - answers - system


token = st.integers(0, 3)
answer = st.lists(token, min_size=0, max_size=14)
drawn_pairs = st.lists(
    st.tuples(st.lists(token, min_size=1, max_size=14), answer, answer), min_size=1, max_size=4
)


@pytest.fixture(scope="module")
def networks(folder: Path) -> dict[bool, Any]:
    """The same model twice: with our packed attention, and as it is."""
    from align.attention import keep_rows_apart

    made = {}
    for packed in (True, False):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        if packed:
            keep_rows_apart(model)
            add_loss_head(model)
        made[packed] = model
    return made


@hypothesis_settings(max_examples=25, deadline=None)
@given(drawn_pairs)
def test_the_shared_path_equals_the_padded_one_for_any_pairs(
    networks: dict[bool, Any], drawn: list[tuple[list[int], list[int], list[int]]]
) -> None:
    from align.dpo.batches import pack_pairs
    from align.losses import label_scores

    pairs = [
        {"prompt_ids": prompt, "chosen_ids": [*chosen, 2], "rejected_ids": [*rejected, 2]}
        for prompt, chosen, rejected in drawn
    ]
    batch = pack_pairs(pairs, share=True)
    count = 2 * len(pairs)
    found = []
    for packed, model in networks.items():
        model.zero_grad()
        if packed:
            log_probs = label_scores(model, batch).log_probs
            sums = log_probs.new_zeros(count).index_add(0, batch["rows"], log_probs)
        else:
            padded = DataCollatorForPreference(pad_token_id=599)(pairs)
            ids, mask = padded["input_ids"], padded["completion_mask"][:, 1:]
            logits = model(input_ids=ids, attention_mask=padded["attention_mask"]).logits[:, :-1]
            log_probs = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
            sums = (log_probs * mask).sum(1)
        chosen, rejected = sums.chunk(2)
        (-torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)).mean()).backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        found.append([sums.detach(), *gradients])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_without_shared_beginnings_the_loss_is_the_same(folder: Path, tmp_path: Path) -> None:
    trainer, batch = ours(folder, tmp_path, make_pairs(), {"nll_weight": 0.2})
    roughen(trainer.model, 0.05)
    shared = loss_and_gradients(trainer, batch)["loss"]
    trainer.model.set_attn_implementation("sdpa")  # what a GPU without flash attention takes
    flat = collate(list(trainer.train_dataset), share=False)
    assert flat["input_ids"].shape[1] > batch["input_ids"].shape[1]
    torch.testing.assert_close(
        trainer.compute_loss(trainer.model, flat).detach(), shared, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    "options",
    [{"weighting": "target"}, {"weighting": "focused"}, {"mask_end": True}],
    ids=str,
)
def test_a_token_of_no_weight_has_no_say_in_the_loss(
    folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Its reference may be anything: it cancels from loss and gradient."""
    (line_end,) = AutoTokenizer.from_pretrained(folder)("\n").input_ids
    trainer, batch = ours(folder, tmp_path, make_pairs(line_end), options)
    roughen(trainer.model, 0.05)
    before = loss_and_gradients(trainer, batch)["loss"]
    silent = batch["weights"] == 0
    assert bool(silent.any())
    batch["reference"] = batch["reference"] + 7.0 * silent
    after = trainer.compute_loss(trainer.model, batch).detach()
    torch.testing.assert_close(after, before)
    batch["reference"] = batch["reference"] + 7.0 * (batch["rows"] == 0)
    assert trainer.compute_loss(trainer.model, batch) > before


def test_a_pair_without_reference_is_an_error(folder: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    add_loss_head(model)
    pairs = make_pairs()
    owner = reference_identity(folder, tokenizer, "float32", quantised=False)
    found = reference_log_probs(model, pairs[:2], owner, RecordingContext(), share=False)
    weights = [token_weights(pair, DpoSettings(), tokenizer) for pair in pairs]
    with pytest.raises(TrainingError, match="lack the pair c"):
        dataset(pairs, weights, found)
    found[pairs[2].key] = ([0.0], [0.0])
    with pytest.raises(TrainingError, match="lack the pair c"):
        dataset(pairs, weights, found)


def test_packing_keeps_the_order_of_labels_that_the_references_follow() -> None:
    row = {
        "prompt_ids": [1, 2],
        "chosen_ids": [3, 4],
        "rejected_ids": [5],
        "chosen_weights": [1.0, 0.5],
        "rejected_weights": [0.0],
        "chosen_reference": [-1.0, -2.0],
        "rejected_reference": [-3.0],
        "chosen_counted": 2,
        "rejected_counted": 0,
    }
    other = row | {"chosen_ids": [6], "chosen_weights": [2.0], "chosen_reference": [-4.0]}
    batch = collate([row, other], share=True)
    assert batch["targets"].tolist() == [3, 4, 6, 5, 5]
    assert batch["rows"].tolist() == [0, 0, 1, 2, 3]
    assert batch["weights"].tolist() == [1.0, 0.5, 2.0, 0.0, 0.0]
    assert batch["reference"].tolist() == [-1.0, -2.0, -4.0, -3.0, -3.0]
    assert batch["counted"].tolist() == [2, 2, 0, 0]
