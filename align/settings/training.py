"""Settings of the two trainings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from align.precision import Precision
from align.settings.base import Positive, Settings, Share

Tracker = Literal["tensorboard", "wandb", "trackio"]


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

    beta: Annotated[float, Field(gt=0)] = 0.1
    nll_weight: Annotated[float, Field(ge=0)] = Field(
        default=0.2, description="NLL anchor on chosen"
    )
    epochs: Annotated[float, Field(gt=0)] = 1.0
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    warmup: Share = 0.1
    batch_pairs: Positive = 2
    accumulate: Positive = 2
    max_pairs: Positive | None = None
    max_length: Positive = 640
    report_to: list[Tracker] = Field(
        default_factory=list, description="where metrics go beside the run's log"
    )
    lora: LoraSettings | None = LoraSettings()
    dtype: Precision = Field(
        default="auto",
        description="what frozen weights are held, and products computed in; `auto`: bfloat16 "
        "where the device multiplies it itself, else float32",
    )
    save_steps: Positive = 50
