"""The preference stage: trains on TRL's DPOTrainer, ends in a merged checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftModel
from torch.nn import functional
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer

from align.attention import keep_rows_apart
from align.chat import IGNORED, Tokenizer
from align.dpo.pairs import choose_pairs, read_pairs
from align.errors import InputError, TrainingError
from align.lora import lora_config
from align.losses import label_log_probs
from align.memory import checkpoint_activations
from align.metrics import Reporter, curve, metric_callbacks
from align.packing import pack
from align.settings import DpoSettings
from align.stage import Context, Output, Summary
from align.training import (
    ResumableTrainer,
    check_devices,
    finish,
    finished,
    last_point,
    load_model,
    load_tokenizer,
    stage_seed,
    trainer_arguments,
    training_dtype,
)

_METRICS = {
    "loss": "loss",
    "preference_loss": "preference_loss",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "logps/chosen": "logp_chosen",
    "logps/rejected": "logp_rejected",
    "learning_rate": "lr",
}
_START_TOLERANCE = 1e-3


class PackedDpoTrainer(ResumableTrainer, DPOTrainer):
    """TRL's trainer on our own token ids, packed, with logits only for the answers."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        """Keeps the ids as they are: `align.chat` made them."""
        return dataset

    def _compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool
    ) -> torch.Tensor:
        """Returns the sigmoid loss of DPO (arXiv:2305.18290, eq. 7), and its NLL anchor.

        The anchor is the mean negative log-likelihood of the chosen answers' tokens (RPO,
        arXiv:2404.19733), weighted by the second of `loss_weights`.
        """
        chosen, rejected, nll = self._log_probs(model, inputs)
        with torch.no_grad():
            if self.ref_model is not None:
                ref_chosen, ref_rejected, _ = self._log_probs(self.ref_model, inputs)
            else:
                with cast(PeftModel, self.accelerator.unwrap_model(model)).disable_adapter():
                    ref_chosen, ref_rejected, _ = self._log_probs(model, inputs)
        chosen_rewards = self.beta * (chosen - ref_chosen)
        rejected_rewards = self.beta * (rejected - ref_rejected)
        margins = chosen_rewards - rejected_rewards
        losses = -functional.logsigmoid(margins)
        self._check_start(losses)
        self._keep(
            {
                "preference_loss": losses,
                "rewards/margins": margins,
                "rewards/accuracies": (margins > 0).float(),
                "logps/chosen": chosen,
                "logps/rejected": rejected,
            }
        )
        loss = losses.mean()
        return loss + self.loss_weights[1] * nll if len(self.loss_weights) > 1 else loss

    @staticmethod
    def _log_probs(
        model: Any, inputs: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns log-probs of the chosen and of the rejected answers, and the anchor.

        The first two are sums over an answer's tokens, of shape (pairs,); the last is the mean
        negative log-likelihood of all chosen tokens.
        """
        log_probs = label_log_probs(model, inputs)
        rows = inputs["rows"]
        pairs = int(rows.max() + 1) // 2
        sums = log_probs.new_zeros(2 * pairs).index_add(0, rows, log_probs)
        return sums[:pairs], sums[pairs:], -log_probs[rows < pairs].mean()

    def _check_start(self, losses: torch.Tensor) -> None:
        """Before the first step policy and reference are one model, so every loss is ln 2."""
        if self.state.global_step > 0:
            return
        worst = float((losses.detach() - math.log(2)).abs().max())
        if not worst <= _START_TOLERANCE:
            raise TrainingError(
                f"before the first step a pair's DPO loss is {worst:.3g} away from ln 2: policy "
                "and reference differ although nothing was trained. The model's folder may hold "
                "an adapter of its own, or a module that is random at every pass; start from "
                "merged weights"
            )

    def _keep(self, values: Mapping[str, torch.Tensor]) -> None:
        for name, value in values.items():
            mean = self.accelerator.gather(value.detach().mean()).mean().item()
            self._metrics["train"][name].append(mean)


def collate(pairs: Sequence[Mapping[str, Any]], *, share: bool) -> dict[str, Any]:
    """Packs pairs: all chosen rows first, then all rejected ones; labels on the answers."""
    return pack(
        [
            (
                [*pair["prompt_ids"], *pair[side]],
                [*([IGNORED] * len(pair["prompt_ids"])), *pair[side]],
            )
            for side in ("chosen_ids", "rejected_ids")
            for pair in pairs
        ],
        share=share,
    )


def run(
    settings: DpoSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Trains `inputs["model"]` to prefer the chosen answers of `inputs["pairs"]`.

    The reference is the model itself before training: with an adapter, the adapter switched off.
    Called again after a crash, it goes on from the last whole point, to the same weights.

    Raises:
        InputError: An input is missing, a row is no pair, or no pair is left.
        CheckpointError: The model can't be loaded.
        TrainingError: The tokenizer can't be used, or policy and reference differ at the start.
        ArtifactError: The folder holds work of other settings.
    """
    if done := finished(out):
        return done
    check_devices()
    if "model" not in inputs or "pairs" not in inputs:
        raise InputError("dpo needs a `model` and a table of `pairs`")
    parent = inputs["model"]
    seed = stage_seed(context, out)
    tokenizer = load_tokenizer(parent)
    table = read_pairs(inputs["pairs"], cast(Tokenizer, tokenizer), settings.max_length)
    pairs = choose_pairs(table, settings.max_pairs, seed)
    if table.overlong:
        context.warn(
            f"{table.overlong} pairs are longer than {settings.max_length} tokens and were left out"
        )
    context.servers.stop()
    anchored = settings.nll_weight > 0
    reporter = Reporter(context, f"{out.identity.instance} training", _METRICS)
    callbacks = [reporter, *metric_callbacks(settings, out)]
    checkpointing = checkpoint_activations(settings, parent, context)
    quantise = bool(settings.lora and settings.lora.quantise)
    model = load_model(parent, training_dtype(settings), quantise=quantise)
    share = keep_rows_apart(model)
    trainer = PackedDpoTrainer(
        model=model,
        args=DPOConfig(
            **trainer_arguments(settings, out, seed, checkpointing),
            per_device_train_batch_size=settings.batch_pairs,
            beta=settings.beta,
            loss_type=["sigmoid", "sft"] if anchored else ["sigmoid"],
            loss_weights=[1.0, settings.nll_weight] if anchored else [1.0],
        ),
        train_dataset=Dataset.from_list([asdict(pair) for pair in pairs]),
        data_collator=partial(collate, share=share),
        processing_class=tokenizer,
        peft_config=lora_config(settings.lora) if settings.lora else None,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.ref_model is not None:
        keep_rows_apart(trainer.ref_model)
    try:
        trainer.train(resume_from_checkpoint=last_point(out))
    finally:
        reporter.close()
    counts = {
        "pairs": len(pairs),
        "overlong": table.overlong,
        "identical": table.identical,
        "steps": trainer.state.global_step,
    }
    steps = curve(trainer, _METRICS)
    details = {"curve": steps, "start": steps[0], "end": steps[-1], "seed": seed}
    return finish(trainer, tokenizer, parent, settings, out, counts, details)
