"""KTO by TRL's own trainer on our token ids: TRL's losses, a merged model, settings that fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import KTOConfig, KTOTrainer

from align.chat import Tokenizer
from align.dpo.kto import labelled_rows
from align.dpo.pairs import choose_pairs, read_pairs
from align.errors import RecipeError
from align.lora import lora_config
from align.recipe import parse_settings
from align.settings import DpoSettings, LoraSettings
from align.training import load_tokenizer
from tests.tiny import build_tiny_model
from tests.training_context import train

KTO = {"loss": "kto", "dtype": "float32", "learning_rate": 1e-3, "batch_pairs": 2, "accumulate": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [
        {
            "prompt": [{"role": "user", "content": f"return {number}"}],
            "chosen": [{"role": "assistant", "content": f"return {number}"}],
            "rejected": [{"role": "assistant", "content": "no idea" + "!" * (number % 3)}],
        }
        for number in range(8)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("lora", [True, False], ids=["adapter", "all weights"])
def test_its_losses_are_those_of_stock_trl(
    model: Path, pairs: Path, tmp_path: Path, lora: bool
) -> None:
    settings: dict[str, Any] = {**KTO, "epochs": 2.0}
    if not lora:
        settings |= {"lora": None, "learning_rate": 1e-4}
    summary, context = train("dpo", settings, {"model": model, "pairs": pairs}, tmp_path / "out")
    ours = [step["loss"] for step in summary.details["curve"]]
    assert len(ours) == 8 and ours[-1] < ours[0]
    assert (tmp_path / "out" / "model" / "model.safetensors").exists()
    assert {"kl", "margin"} <= context.steps()[-1].keys()

    tokenizer = load_tokenizer(model)
    table = read_pairs(pairs, cast(Tokenizer, tokenizer), 640)
    seed = summary.details["seed"]
    in_our_order = labelled_rows(choose_pairs(table, None, seed), 4, seed)
    stock = KTOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        args=KTOConfig(
            output_dir=str(tmp_path / "stock"),
            num_train_epochs=2,
            learning_rate=settings["learning_rate"],
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            per_device_train_batch_size=4,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            bf16=False,
            use_cpu=True,
            seed=seed,
            beta=0.1,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(
            [
                {
                    "prompt": tokenizer.decode(row["prompt_ids"]),
                    "completion": tokenizer.decode(row["completion_ids"]),
                    "label": row["label"],
                }
                for row in in_our_order
            ]
        ),
        processing_class=tokenizer,
        peft_config=lora_config(LoraSettings()) if lora else None,
    )
    stock.train()
    theirs = [entry["loss"] for entry in stock.state.log_history if "loss" in entry]
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_each_answer_is_measured_behind_the_prompt_of_another(pairs: Path, model: Path) -> None:
    tokenizer = cast(Tokenizer, load_tokenizer(model))
    rows = list(labelled_rows(read_pairs(pairs, tokenizer, 640).rows, 4, seed=3))
    assert [sum(row["label"] for row in rows), len(rows)] == [8, 16]
    for start in range(0, len(rows), 4):
        group = rows[start : start + 4]
        others = [row["KL_completion_ids"] for row in group]
        assert others == [group[place - 1]["completion_ids"] for place in range(4)]


def test_what_compares_two_answers_is_refused() -> None:
    with pytest.raises(RecipeError, match="kto knows no weighting, held_out"):
        parse_settings(
            DpoSettings, {"loss": "kto", "weighting": "target", "held_out": 0.1}, "--set"
        )
