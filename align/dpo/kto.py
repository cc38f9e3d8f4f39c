"""KTO (arXiv:2402.01306) on TRL's own trainer: an answer is good or bad, whatever its pair.

Both sides of a pair become rows of their own. What an unrelated answer loses to the reference is
measured on the answers of the same batch, each behind the prompt of another; rows are shuffled once
for that, and keep their batches.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import KTOConfig, KTOTrainer

from align.dpo.pairs import TokenPair
from align.lora import lora_config
from align.settings import DpoSettings
from align.training import (
    ResumableTrainer,
    keep_adapter_exact,
    load_model,
    training_dtype,
)


class KtoTrainer(ResumableTrainer, KTOTrainer):
    """TRL's trainer on our own token ids."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        """Keeps the ids as they are: `align.chat` made them."""
        return dataset


def labelled_rows(pairs: Sequence[TokenPair], batch: int, seed: int) -> Dataset:
    """Returns both answers of each pair as rows, each with another's answer to its prompt.

    Args:
        pairs: The pairs.
        batch: Rows of one pass; a row's other answer is that of the row before it in its batch.
        seed: Fixes the order.
    """
    rows = [
        {"prompt_ids": pair.prompt_ids, "completion_ids": ids, "label": label}
        for pair in pairs
        for ids, label in ((pair.chosen_ids, True), (pair.rejected_ids, False))
    ]
    random.Random(seed).shuffle(rows)
    for start in range(0, len(rows), batch):
        group = rows[start : start + batch]
        for place, row in enumerate(group):
            row["KL_completion_ids"] = group[place - 1]["completion_ids"]
    return Dataset.from_list(rows)


def build_kto_trainer(
    settings: DpoSettings,
    parent: Path,
    reference: Path,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[TokenPair],
    arguments: Mapping[str, Any],
    callbacks: Sequence[TrainerCallback],
) -> KtoTrainer:
    """Loads the policy, and a second model as its reference where an adapter can't be switched off.

    Args:
        settings: The stage's settings.
        parent: The checkpoint that the policy starts from.
        reference: The one that it is kept near to, most often the same.
        tokenizer: As `load_tokenizer` returns it.
        pairs: The pairs of one pass.
        arguments: As `trainer_arguments` returns them.
        callbacks: What hears of each step.
    """
    dtype, lora = training_dtype(settings), settings.lora
    own = lora is not None and reference.resolve() == parent.resolve()
    batch = 2 * settings.batch_pairs
    trainer = KtoTrainer(
        model=load_model(parent, dtype, quantise=bool(lora and lora.quantise)),
        ref_model=None if own else load_model(reference, dtype),
        args=KTOConfig(
            **arguments,
            beta=settings.beta,
            per_device_train_batch_size=batch,
            train_sampling_strategy="sequential",
            disable_dropout=not (lora and lora.dropout),
        ),
        train_dataset=labelled_rows(pairs, batch, int(arguments["seed"])),
        processing_class=tokenizer,
        peft_config=lora_config(lora) if lora else None,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    keep_adapter_exact(cast(torch.nn.Module, trainer.model))
    return trainer
