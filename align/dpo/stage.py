"""The preference stage: trains on TRL's DPOTrainer, ends in a merged checkpoint."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from datasets import Dataset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)
from trl import DPOConfig

from align.attention import keep_rows_apart
from align.chat import Tokenizer
from align.dpo.batches import collate, dataset
from align.dpo.kto import build_kto_trainer
from align.dpo.pairs import TokenPair, choose_pairs, hold_out, read_pairs
from align.dpo.reference import reference_identity, reference_log_probs
from align.dpo.trainer import PackedDpoTrainer
from align.dpo.watch import METRICS, Watch, watched
from align.dpo.weights import token_weights
from align.errors import InputError
from align.gating import gate_in_one
from align.lora import lora_config, warn_of_untrained
from align.losses import add_loss_head
from align.memory import checkpoint_activations
from align.metrics import Reporter, curve, metric_callbacks
from align.settings import DpoSettings
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


def run(
    settings: DpoSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Trains `inputs["model"]` to prefer the chosen answers of `inputs["pairs"]`.

    The reference is the model itself before training, with no adapter on it, or the checkpoint of
    the input `reference`; its log-probabilities come from the cache, or are computed first. Called
    again after a crash, training goes on from the last whole point, to the same weights.

    Raises:
        InputError: An input is missing, a row is no pair, or no pair is left.
        CheckpointError: The model can't be loaded.
        TrainingError: The tokenizer can't be used, a reference is missing, or policy and reference
            differ at the start.
        ArtifactError: The folder holds work of other settings, or the cache of other weights.
    """
    if done := finished(out):
        return done
    join_processes()
    if "model" not in inputs or "pairs" not in inputs:
        raise InputError("dpo needs a `model` and a table of `pairs`")
    parent = inputs["model"]
    seed = stage_seed(context, out)
    tokenizer = load_tokenizer(parent)
    table = read_pairs(inputs["pairs"], cast(Tokenizer, tokenizer), settings.max_length)
    chosen = choose_pairs(table, settings.max_pairs, seed)
    pairs, held_out = hold_out(chosen, settings.held_out)
    if table.overlong:
        context.warn(
            f"{table.overlong} pairs are longer than {settings.max_length} tokens and were left out"
        )
    context.servers.stop()
    largest = _largest_pass([*pairs, *held_out], settings)
    checkpointing = checkpoint_activations(settings, parent, context, largest)
    reporter = Reporter(context, f"{out.identity.instance} training", METRICS)
    point = last_point(out)
    arguments = trainer_arguments(settings, out, seed, checkpointing)
    arguments["eval_on_start"] = bool(held_out) and point is None
    reference = inputs.get("reference", parent)
    callbacks = [reporter, *metric_callbacks(settings, out)]
    trainer: ResumableTrainer
    if settings.loss == "kto":
        trainer = build_kto_trainer(
            settings, parent, reference, tokenizer, pairs, arguments, callbacks
        )
    else:
        trainer = build_trainer(
            settings,
            parent,
            reference,
            tokenizer,
            pairs,
            held_out,
            arguments,
            [*callbacks, Watch(settings, context)],
            context,
        )
    try:
        trainer.train(resume_from_checkpoint=point)
    finally:
        reporter.close()
    counts = {
        "pairs": len(pairs),
        "held_out": len(held_out),
        "overlong": table.overlong,
        "identical": table.identical,
        "steps": trainer.state.global_step,
    }
    steps = curve(trainer, METRICS)
    details = {
        "curve": steps,
        "start": steps[0],
        "end": steps[-1],
        **({} if settings.loss == "kto" else watched(trainer.state.log_history, settings)),
        "stopped_early": trainer.state.global_step < trainer.state.max_steps,
        "seed": seed,
    }
    return finish(trainer, tokenizer, parent, settings, out, counts, details)


def _largest_pass(pairs: Sequence[TokenPair], settings: DpoSettings) -> int:
    """Returns a bound of the tokens of one forward pass: the longest pairs, nothing shared."""
    if settings.loss == "kto":  # padded
        answers = [max(len(p.chosen_ids), len(p.rejected_ids)) for p in pairs]
        longest = max(len(p.prompt_ids) + n for p, n in zip(pairs, answers, strict=True))
        return 2 * settings.batch_pairs * longest
    sizes = (2 * len(p.prompt_ids) + len(p.chosen_ids) + len(p.rejected_ids) for p in pairs)
    return sum(sorted(sizes)[-settings.batch_pairs :])


def build_trainer(
    settings: DpoSettings,
    parent: Path,
    reference: Path,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[TokenPair],
    held_out: Sequence[TokenPair],
    arguments: Mapping[str, Any],
    callbacks: Sequence[TrainerCallback],
    context: Context,
) -> PackedDpoTrainer:
    """Has the reference give its log-probabilities, loads the policy, and returns the trainer.

    Args:
        settings: The stage's settings.
        parent: The checkpoint that the policy starts from.
        reference: The one that it is kept near to, most often the same.
        tokenizer: As `load_tokenizer` returns it.
        pairs: The pairs of one pass, in their order.
        held_out: Pairs that are only watched.
        arguments: As `trainer_arguments` returns them.
        callbacks: What hears of each step.
        context: The run.
    """
    quantised = bool(settings.lora and settings.lora.quantise)
    dtype = training_dtype(settings)
    autocast = bool(arguments["bf16"])
    own = reference.resolve() == parent.resolve()

    def load(folder: Path) -> tuple[PreTrainedModel, bool]:
        model = load_model(folder, dtype, quantise=quantised)
        share = keep_rows_apart(model, autocast or dtype != "float32")
        gate_in_one(model)
        add_loss_head(model)
        return model, share

    model, share = load(reference)
    references = reference_log_probs(
        model,
        [*pairs, *held_out],
        reference_identity(
            reference, tokenizer, "autocast" if autocast else dtype, quantised=quantised
        ),
        context,
        share=share,
        autocast=autocast,
    )
    if not own:
        del model  # before the policy is loaded: two of them may not fit
        gc.collect()  # its patched methods refer to it
        model, share = load(parent)
    if settings.lora:
        warn_of_untrained(model, tokenizer, context, settings.lora)

    def rows(some: Sequence[TokenPair]) -> Dataset:
        return dataset(some, [token_weights(p, settings, tokenizer) for p in some], references)

    trainer = PackedDpoTrainer(
        settings,
        starts_at_reference=own,
        model=model,
        args=DPOConfig(
            **arguments,
            per_device_train_batch_size=settings.batch_pairs,
            per_device_eval_batch_size=settings.batch_pairs,
            eval_strategy="steps" if held_out else "no",
            eval_steps=settings.eval_steps,
            precompute_ref_log_probs=settings.lora is None,  # else TRL loads a second model
            disable_dropout=not (settings.lora and settings.lora.dropout),
        ),
        train_dataset=rows(pairs),
        eval_dataset=rows(held_out) if held_out else None,
        data_collator=partial(collate, share=share),
        processing_class=tokenizer,
        peft_config=lora_config(settings.lora) if settings.lora else None,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    keep_adapter_exact(model)
    return trainer
