"""The supervised stage: reads, mixes, trains on TRL's SFTTrainer, ends in a merged checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)
from trl import SFTConfig, SFTTrainer

from align.attention import keep_rows_apart
from align.chat import IGNORED, Tokenizer
from align.errors import InputError, TrainingError
from align.gating import gate_in_one
from align.lora import lora_config, rows_to_train
from align.losses import add_loss_head, weighted_nll
from align.memory import checkpoint_activations
from align.metrics import Reporter, curve, metric_callbacks
from align.packing import best_fit, pack
from align.settings import SftSettings
from align.sft.mixing import mix
from align.sft.rows import Source, TokenRow, read_source
from align.skips import Skips
from align.stage import Context, Output, Summary
from align.training import (
    ResumableTrainer,
    finish,
    finished,
    join_processes,
    keep_adapter_exact,
    last_point,
    load_model,
    load_tokenizer,
    stage_seed,
    trainer_arguments,
    training_dtype,
)

_MOST_SHOWN = 10
"""Bad rows that are named on the screen; the log names all."""

_METRICS = {"loss": "loss", "learning_rate": "lr", "num_input_tokens_seen": "tokens"}


class PackedSftTrainer(ResumableTrainer, SFTTrainer):
    """TRL's trainer on packed passes, with the loss computed only where there is a label."""

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Trains on a batch, pass by pass; the gradients add up as if it were one."""
        step: Any = super().training_step
        losses = [step(model, each, num_items_in_batch) for each in inputs["passes"]]
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Returns the weighted negative log-likelihood over the step's labelled tokens.

        Dividing by the labels of the whole optimiser step makes accumulation change nothing. What
        TRL's own loss measures beside it (entropy, accuracy) is left out: nobody reads it.
        """
        if num_items_in_batch is None:
            raise TrainingError("the trainer did not count the labels of the step")
        weights = inputs["weights"][inputs["rows"]]
        return weighted_nll(model, inputs, weights) / num_items_in_batch


@dataclass(frozen=True)
class Collator:
    """Makes of a batch of rows the passes that train it.

    Attributes:
        pass_tokens: Tokens of one forward pass.
        share: Compute what rows of a pass begin with only once.
    """

    pass_tokens: int
    share: bool

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Returns `passes`, and all rows' `input_ids` and `labels`, by which the trainer counts."""
        lengths = [len(row["input_ids"]) for row in rows]
        passes = []
        for group in best_fit(lengths, self.pass_tokens):
            chosen = [rows[number] for number in group]
            batch = pack([(row["input_ids"], row["labels"]) for row in chosen], share=self.share)
            batch["weights"] = torch.tensor([row["weight"] for row in chosen], dtype=torch.float32)
            passes.append(batch)
        return {
            "passes": passes,
            "input_ids": torch.tensor([token for row in rows for token in row["input_ids"]]),
            "labels": torch.tensor([label for row in rows for label in row["labels"]]),
        }


def run(
    settings: SftSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Fine-tunes `inputs["model"]` on the rows of every other input.

    Called again after a crash, it goes on from the last whole point, to the same weights.

    Raises:
        InputError: An input is missing, no row is left, or a row is too long and must not be.
        RecipeError: The mix does not fit the inputs.
        CheckpointError: The model can't be loaded.
        TrainingError: The tokenizer is not of a kind that can be trained.
        ArtifactError: The folder holds work of other settings.
    """
    if done := finished(out):
        return done
    join_processes()
    parent = inputs.get("model")
    if parent is None or len(inputs) < 2:
        raise InputError("sft needs a `model` and at least one table of rows")
    tables = {name: path for name, path in inputs.items() if name != "model"}
    seed = stage_seed(context, out)
    tokenizer = load_tokenizer(parent)
    skips = Skips(context)
    sources = {
        name: read_source(path, cast(Tokenizer, tokenizer), settings, skips)
        for name, path in tables.items()
    }
    _warn(sources, settings, skips, context)
    mixed = mix({name: source.rows for name, source in sources.items()}, settings, seed)
    rows = mixed.rows
    context.servers.stop()
    reporter = Reporter(context, f"{out.identity.instance} training", _METRICS)
    callbacks = [reporter, *metric_callbacks(settings, out)]
    longest = max(len(row.encoded.input_ids) for row in rows)
    largest = max(longest, min(settings.batch_rows * longest, settings.pass_tokens))
    checkpointing = checkpoint_activations(settings, parent, context, largest)
    lora = settings.lora
    model = load_model(parent, training_dtype(settings), quantise=bool(lora and lora.quantise))
    tokens = rows_to_train(model, tokenizer, lora, context) if lora else {}
    arguments = trainer_arguments(settings, out, seed, checkpointing)
    trainer = build_trainer(settings, model, tokenizer, rows, arguments, callbacks, tokens)
    try:
        trainer.train(resume_from_checkpoint=last_point(out))
    finally:
        reporter.close()
    counts = {
        "rows": len(rows),
        "overlong": sum(source.overlong for source in sources.values()),
        "bad": skips.counts["bad_row"],
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
                "truncated": source.truncated,
                "bad": source.bad,
                "lengths": source.lengths,
                "used": mixed.used[name],
                "tokens": mixed.tokens[name],
            }
            for name, source in sources.items()
        },
        "skips": skips.listed,
        "seed": seed,
    }
    return finish(trainer, tokenizer, parent, settings, out, counts, details)


def _warn(
    sources: Mapping[str, Source], settings: SftSettings, skips: Skips, context: Context
) -> None:
    """Says how many rows are too long, or can't be trained, and how long the rows are."""
    for name, source in sources.items():
        if source.overlong:
            left_out = source.overlong - source.truncated
            lengths = ", ".join(f"{key} {value}" for key, value in source.lengths.items())
            context.warn(
                f"{name}: {source.overlong} rows are longer than {settings.max_length} tokens: "
                f"{left_out} were left out, {source.truncated} truncated; tokens of all rows: "
                f"{lengths}"
            )
        if source.bad:
            context.warn(f"{name}: {source.bad} rows can't be trained and were left out")
    for entry in [each for each in skips.listed if each["kind"] == "bad_row"][:_MOST_SHOWN]:
        context.warn(f"{entry['place']}: {entry['reason']}")


def build_trainer(
    settings: SftSettings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[TokenRow],
    arguments: Mapping[str, Any],
    callbacks: Sequence[TrainerCallback],
    tokens: Mapping[str, list[int]],
) -> PackedSftTrainer:
    """Returns the trainer of a stage.

    Args:
        settings: The stage's settings.
        model: The model before training, without an adapter.
        tokenizer: As `load_tokenizer` returns it.
        rows: The rows of one pass, in their order.
        arguments: As `trainer_arguments` returns them.
        callbacks: What hears of each step.
        tokens: Rows that are trained beside the adapter, as `rows_to_train` returns them.
    """
    share = keep_rows_apart(model, bool(arguments["bf16"]) or model.dtype != torch.float32)
    gate_in_one(model)
    trainer = PackedSftTrainer(
        model=model,
        args=SFTConfig(
            **arguments,
            per_device_train_batch_size=settings.batch_rows,
            include_num_input_tokens_seen="all",
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=_dataset(rows),
        data_collator=Collator(settings.pass_tokens, share),
        processing_class=tokenizer,
        peft_config=lora_config(settings.lora, tokens=tokens) if settings.lora else None,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    keep_adapter_exact(model)
    add_loss_head(model)
    return trainer


def _dataset(rows: Sequence[TokenRow]) -> Dataset:
    return Dataset.from_dict(
        {
            "input_ids": [row.encoded.input_ids for row in rows],
            "labels": [row.encoded.labels for row in rows],
            "weight": [row.weight for row in rows],
        }
    )
