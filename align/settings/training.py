"""Settings of the two trainings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from align.precision import Precision
from align.settings.base import Positive, Settings, Share

Tracker = Literal["tensorboard", "wandb", "trackio"]
PreferenceLoss = Literal["sigmoid", "robust", "ipo", "hinge", "sigmoid_norm"]
_NOT_OF_KTO = (
    "nll_weight",
    "ld_alpha",
    "weighting",
    "focus",
    "mask_end",
    "held_out",
    "group_prompts",
)


class LoraSettings(Settings):
    """A low-rank adapter on all linear layers but the output head."""

    r: Positive = 16
    alpha: Positive = 32
    dropout: Share = 0.0
    dora: bool = Field(
        default=False, description="train magnitudes, too (DoRA): slower; vLLM serves it merged"
    )
    quantise: bool = Field(
        default=False, description="hold the frozen weights in 4 bits (QLoRA); needs a GPU"
    )
    train_tokens: Literal["auto", "never"] = Field(
        default="auto",
        description="rows of chat tokens that the start checkpoint never trained (a base model's): "
        "train them, or refuse to start",
    )


class SftSettings(Settings):
    """One supervised fine-tuning stage; coarse, fine and mixed differ by settings only."""

    mix: dict[str, Share] = Field(
        default_factory=dict,
        description="share of each input (`data`, `fine`, `fim`); empty: all rows",
    )
    mix_by: Literal["rows", "tokens"] = Field(
        default="rows", description="what the shares are shares of"
    )
    max_rows: Positive | None = Field(default=None, description="rows of one pass, after mixing")
    max_tokens: Positive | None = Field(
        default=None,
        description="tokens of one pass of a mix by tokens; null: as many as there are",
    )
    epochs: Annotated[float, Field(gt=0)] = 1.0
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    warmup: Share = Field(default=0.05, description="share of the steps")
    batch_rows: Positive = Field(default=4, description="rows that are packed together")
    accumulate: Positive = Field(default=1, description="batches of one optimiser step")
    pass_tokens: Positive = Field(
        default=1024,
        description="tokens of one forward pass; a batch that holds more is split, best fit first",
    )
    max_length: Positive = Field(default=512, description="tokens of a row")
    overlong: Literal["drop", "error", "truncate"] = Field(
        default="drop",
        description="what becomes of longer rows; a truncated answer has no end token",
    )
    train_on: Literal["assistant", "last_turn_only", "qwen_script"] = Field(
        default="assistant",
        description="which tokens of a chat are trained: every answer and its end, the last one's, "
        "or what Qwen2.5-Coder's published script trains",
    )
    report_to: list[Tracker] = Field(
        default_factory=list, description="where metrics go beside the run's log"
    )
    lora: LoraSettings | None = LoraSettings()
    dtype: Precision = Field(
        default="auto",
        description="what frozen weights are held, and products computed in; `auto`: bfloat16 "
        "where the device multiplies it itself, else float32",
    )
    save_steps: Positive = Field(default=50, description="steps between two points to resume from")

    @model_validator(mode="after")
    def _has_one_measure(self) -> SftSettings:
        if self.mix_by == "tokens" and self.max_rows is not None:
            raise ValueError("a mix by tokens is cut by max_tokens, not by max_rows")
        if self.mix_by == "rows" and self.max_tokens is not None:
            raise ValueError("max_tokens cuts a mix by tokens: set mix_by to tokens, or max_rows")
        return self


class DpoSettings(Settings):
    """Direct preference optimisation."""

    loss: PreferenceLoss | Literal["kto"] = Field(
        default="sigmoid",
        description="sigmoid (DPO), robust (some labels are wrong), ipo, hinge, sigmoid_norm "
        "(log-ratios a token: for answers of unequal length), or kto (each answer on its own)",
    )
    beta: Annotated[float, Field(gt=0)] = Field(
        default=0.1, description="strength of the pull to the reference; sigmoid_norm wants 2 to 5"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        default=0.0, description="share of wrong labels that the robust loss reckons with"
    )
    nll_weight: Annotated[float, Field(ge=0)] = Field(
        default=0.2,
        description="weight of the chosen answers' likelihood (RPO's anchor; kto has none)",
    )
    ld_alpha: Share | None = Field(
        default=None,
        description="weight of an answer's tokens behind the shorter answer's length (LD-DPO)",
    )
    weighting: Literal["none", "target", "focused"] = Field(
        default="none",
        description="target: of the rejected answer only lines that the chosen one lacks; focused: "
        "the part where the answers differ counts `focus` times, what follows it in the rejected "
        "one not at all",
    )
    focus: Annotated[float, Field(ge=1)] = Field(
        default=2.0, description="weight of the differing part under `weighting: focused`"
    )
    mask_end: bool = Field(
        default=False,
        description="leave the end token out of the preference loss (the NLL anchor keeps it)",
    )
    epochs: Annotated[float, Field(gt=0)] = 1.0
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    warmup: Share = Field(default=0.1, description="share of the steps")
    batch_pairs: Positive = Field(default=2, description="pairs that are packed together")
    accumulate: Positive = Field(default=2, description="batches of one optimiser step")
    max_pairs: Positive | None = Field(default=None, description="pairs of one pass")
    group_prompts: bool = Field(
        default=False,
        description="draw the pairs of a prompt one after another, which computes the prompt once; "
        "a step then sees fewer prompts",
    )
    max_length: Positive = Field(
        default=640,
        description="tokens of a prompt and the longer answer; longer pairs are left out",
    )
    held_out: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="share of the prompts whose pairs are not trained, but watched",
    )
    eval_steps: Positive = Field(
        default=25, description="steps between two looks at the held-out pairs"
    )
    patience: Positive | None = Field(
        default=None,
        description="stop after so many looks without a lower held-out loss; null: never",
    )
    watch_samples: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="answers that are sampled to held-out prompts at every look: their length, "
        "repetition, and distance from the reference",
    )
    watch_tokens: Positive = Field(default=128, description="most tokens of such an answer")
    report_to: list[Tracker] = Field(
        default_factory=list, description="where metrics go beside the run's log"
    )
    lora: LoraSettings | None = LoraSettings()
    dtype: Precision = Field(
        default="auto",
        description="what frozen weights are held, and products computed in; `auto`: bfloat16 "
        "where the device multiplies it itself, else float32",
    )
    save_steps: Positive = Field(default=50, description="steps between two points to resume from")

    @model_validator(mode="after")
    def _fits_together(self) -> DpoSettings:
        if (self.loss == "robust") != (self.label_smoothing > 0):
            raise ValueError(
                "the robust loss, and it alone, needs a label_smoothing over 0: the share of pairs "
                "that are the wrong way round"
            )
        changed = [
            name
            for name in _NOT_OF_KTO
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.loss == "kto" and changed:
            raise ValueError(f"kto knows no {', '.join(changed)}: leave it out")
        if self.held_out == 0 and (self.patience is not None or self.watch_samples):
            raise ValueError(
                "patience and watch_samples look at held-out pairs: set held_out, e.g. to 0.05"
            )
        return self
