"""TRL's DPO trainer on packed passes, with the reference's log-probabilities in the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from trl import DPOTrainer

from align.dpo.losses import preference_losses
from align.dpo.order import PromptOrder
from align.dpo.samples import sample_answers
from align.dpo.watch import HELD_OUT, out_of_patience, points
from align.errors import TrainingError
from align.losses import label_scores
from align.settings import DpoSettings
from align.training import ResumableTrainer

_START_TOLERANCE = {True: 1e-4, False: 5e-2}
"""Nats a token, by whether everything is float32, that one model's log-probabilities differ by when
it meets the same answers in other passes: bfloat16 rounds logits near 20 to steps of 1/8."""


class PackedDpoTrainer(ResumableTrainer, DPOTrainer):
    """TRL's trainer on our own token ids, packed, with logits only for the answers.

    Args:
        settings: The stage's settings.
        starts_at_reference: Whether policy and reference are one model before the first step.
        **options: What TRL's trainer takes; the datasets are those of `align.dpo.batches.dataset`.
    """

    def __init__(
        self, settings: DpoSettings, *, starts_at_reference: bool = True, **options: Any
    ) -> None:
        """Sets TRL's trainer up, which neither tokenises nor computes a reference."""
        self._settings = settings
        self._starts_at_reference = starts_at_reference
        self._order: PromptOrder | None = None
        super().__init__(**options)

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        """Keeps the ids as they are: `align.chat` made them."""
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any) -> Dataset:
        """Computes nothing: the batches carry the reference's log-probabilities."""
        return dataset

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int] | None:
        if not self._settings.group_prompts:
            return cast("Sampler[int] | None", super()._get_train_sampler(train_dataset))
        rows = train_dataset or cast(Dataset, self.train_dataset)
        self._order = PromptOrder([tuple(ids) for ids in rows["prompt_ids"]], self.args.seed)
        return self._order

    def _run_epoch(self, *args: Any, **options: Any) -> None:
        """Tells the order its epoch: of several processes that resume, none passes it on."""
        if self._order is not None:
            self._order.set_epoch(options["epoch"])
        super()._run_epoch(*args, **options)

    def _is_over(self) -> bool:
        looks = [point["loss"] for point in points(self.state.log_history, HELD_OUT)]
        return super()._is_over() or out_of_patience(looks, self._settings.patience)

    def _compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool
    ) -> torch.Tensor:
        """Returns the mean preference loss of a pass, plus the NLL anchor.

        The anchor is the mean negative log-likelihood of the chosen answers' tokens (RPO,
        arXiv:2404.19733), all of them, whatever the preference loss weighs.
        """
        settings = self._settings
        assert settings.loss != "kto"
        scores = label_scores(model, inputs)
        log_probs, rows = scores.log_probs, inputs["rows"]
        shifts = log_probs - inputs["reference"]
        if model.training:
            self._check_start(shifts)
        count = len(inputs["counted"])

        def by_row(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            sums = values.new_zeros(count).index_add(0, rows, values)
            return sums[: count // 2], sums[count // 2 :]

        chosen, rejected = by_row(shifts * inputs["weights"])
        losses = preference_losses(
            settings.loss,
            chosen,
            rejected,
            inputs["counted"],
            settings.beta,
            settings.label_smoothing,
        )
        nll = -log_probs[rows < count // 2].mean()
        with torch.no_grad():
            margins = settings.beta * (chosen - rejected)
            sums = by_row(log_probs)
            is_chosen = rows < count // 2
            self._keep(
                "train" if model.training else "eval",
                {
                    "preference_loss": losses,
                    "nll": nll,
                    "rewards/margins": margins,
                    "rewards/accuracies": (margins > 0).float(),
                    "logps/chosen": sums[0],
                    "logps/rejected": sums[1],
                    "shifts/chosen": shifts[is_chosen],
                    "shifts/rejected": shifts[~is_chosen],
                    "entropy": scores.entropies,
                },
                pairs=count // 2,
            )
        return losses.mean() + settings.nll_weight * nll

    def _check_start(self, shifts: torch.Tensor) -> None:
        """Before the first step policy and reference are one model: no log-probability differs."""
        if self.state.global_step > 0 or not self._starts_at_reference:
            return
        away = float(shifts.detach().abs().mean())
        exact = not self.args.bf16 and self._base_dtype() == torch.float32
        if not away <= _START_TOLERANCE[exact]:
            raise TrainingError(
                f"before the first step policy and reference differ by {away:.3g} nats a token "
                "although nothing was trained: the loss does not start at ln 2. The model's folder "
                "may hold an adapter of its own, or a module that is random at every pass; start "
                "from merged weights. If its weights were changed in place, delete the cache of "
                "references (`code-align/references` in the user's cache folder)"
            )

    def _base_dtype(self) -> torch.dtype:
        model: Any = self.accelerator.unwrap_model(self.model)
        return cast(torch.dtype, model.get_output_embeddings().weight.dtype)

    def _keep(self, mode: str, values: Mapping[str, torch.Tensor], pairs: int) -> None:
        """Keeps each figure's mean over a pass once for each of its pairs.

        The mean of what was kept then weighs passes as the loss on held-out pairs does.
        """
        for name, value in values.items():
            mean = value.detach().float().mean()
            sums = torch.stack([pairs * mean, torch.full_like(mean, pairs)])
            total, count = self.accelerator.gather(sums).view(-1, 2).sum(0).tolist()
            self._metrics[mode][name] += [total / count] * round(count)

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """Measures the loss on the held-out pairs, and looks at a few sampled answers."""
        found: dict[str, float] = super().evaluate(*args, **options)
        if self._settings.watch_samples:
            seen = sample_answers(
                self.accelerator.unwrap_model(self.model),
                [row["prompt_ids"] for row in self._prompts()],
                self._settings.watch_tokens,
                end=cast(Any, self.processing_class).eos_token_id,
                seed=self.args.seed,
                starts_at_reference=self._starts_at_reference,
            )
            self.log({f"samples/{name}": value for name, value in seen.items()})
        return found

    def _prompts(self) -> list[Mapping[str, Any]]:
        held_out = cast(Dataset, self.eval_dataset)
        return [held_out[n] for n in range(min(len(held_out), self._settings.watch_samples))]
