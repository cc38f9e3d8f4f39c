"""The supervised stage: reads, mixes, trains on TRL's SFTTrainer, ends in a merged checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from align.chat import IGNORED, Tokenizer
from align.errors import InputError
from align.settings import SftSettings
from align.sft.mixing import mix
from align.sft.rows import TokenRow, read_source
from align.stage import Context, Output, Summary
from align.training import (
    Reporter,
    ResumableTrainer,
    curve,
    finish,
    finished,
    label_log_probs,
    last_point,
    load_model,
    load_tokenizer,
    lora_config,
    pack,
    stage_seed,
    trainer_arguments,
    training_dtype,
)

_METRICS = {"loss": "loss", "learning_rate": "lr", "num_input_tokens_seen": "tokens"}


class PackedSftTrainer(ResumableTrainer, SFTTrainer):
    """TRL's trainer on packed batches, with the loss computed only where there is a label."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Returns the weighted negative log-likelihood over the step's labelled tokens.

        Dividing by the labels of the whole optimiser step makes accumulation change nothing.
        """
        log_probs, places = label_log_probs(model, inputs)
        weights = inputs["weights"][inputs["row"][0, places]]
        items = len(places) if num_items_in_batch is None else num_items_in_batch
        return -(weights * log_probs).sum() / items


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Packs the rows of a batch; `weights` has shape (rows,)."""
    batch = pack([(row["input_ids"], row["labels"]) for row in rows])
    batch["weights"] = torch.tensor([row["weight"] for row in rows], dtype=torch.float32)
    return batch


def run(
    settings: SftSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Fine-tunes `inputs["model"]` on the rows of every other input.

    Called again after a crash, it goes on from the last whole point, to the same weights.

    Raises:
        InputError: An input is missing, a row can't be trained, or no row is left.
        RecipeError: The mix does not fit the inputs.
        CheckpointError: The model can't be loaded.
        TrainingError: The tokenizer is not of a kind that can be trained.
        ArtifactError: The folder holds work of other settings.
    """
    if done := finished(out):
        return done
    parent = inputs.get("model")
    if parent is None or len(inputs) < 2:
        raise InputError("sft needs a `model` and at least one table of rows")
    tables = {name: path for name, path in inputs.items() if name != "model"}
    seed = stage_seed(context, out)
    tokenizer = load_tokenizer(parent)
    sources = {
        name: read_source(path, cast(Tokenizer, tokenizer), settings.max_length)
        for name, path in tables.items()
    }
    mixed = mix({name: source.rows for name, source in sources.items()}, settings, seed)
    rows = mixed.rows
    overlong = sum(source.overlong for source in sources.values())
    if overlong:
        context.warn(
            f"{overlong} rows are longer than {settings.max_length} tokens and were left out"
        )
    context.servers.stop()
    reporter = Reporter(context, f"{out.identity.instance} training", _METRICS)
    trainer = PackedSftTrainer(
        model=load_model(parent, training_dtype(settings)),
        args=SFTConfig(
            **trainer_arguments(settings, out, seed),
            per_device_train_batch_size=settings.batch_rows,
            include_num_input_tokens_seen="all",
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=_dataset(rows),
        data_collator=collate,
        processing_class=tokenizer,
        peft_config=lora_config(settings.lora) if settings.lora else None,
        callbacks=[reporter],
    )
    trainer.remove_callback(PrinterCallback)
    try:
        trainer.train(resume_from_checkpoint=last_point(out))
    finally:
        reporter.close()
    counts = {
        "rows": len(rows),
        "overlong": overlong,
        "steps": trainer.state.global_step,
        "tokens": sum(len(row.encoded.input_ids) for row in rows),
        "trained_tokens": sum(
            sum(label != IGNORED for label in row.encoded.labels) for row in rows
        ),
    }
    details = {
        "curve": curve(trainer, _METRICS),
        "sources": {
            name: {
                "usable": len(source.rows),
                "overlong": source.overlong,
                "used": mixed.used[name],
                "tokens": mixed.tokens[name],
            }
            for name, source in sources.items()
        },
        "seed": seed,
    }
    return finish(trainer, tokenizer, parent, settings, out, counts, details)


def _dataset(rows: Sequence[TokenRow]) -> Dataset:
    return Dataset.from_dict(
        {
            "input_ids": [row.encoded.input_ids for row in rows],
            "labels": [row.encoded.labels for row in rows],
            "weight": [row.weight for row in rows],
        }
    )
