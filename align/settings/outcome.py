"""Settings of what a run ends in: evaluation, the exported folder, the report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from align.settings.base import Positive, Settings

EvalPrompt = Literal["own", "qwen", "evalplus", "raw"]
Block = Literal["best", "first", "last"]
Checkpoint = Annotated[
    str, Field(pattern=r"^(start|coarse|fine|mixed|(sft_on_chosen|dpo)(\.r[1-9][0-9]*)?)$")
]


class RepeatedSettings(Settings):
    """The same problems once more, with several sampled answers to each."""

    n: Annotated[int, Field(ge=2)] = Field(default=10, description="answers to each problem")
    temperature: Annotated[float, Field(gt=0)] = 0.2
    benchmarks: list[str] | None = Field(
        default=None, description="which of eval.benchmarks; null: all"
    )
    checkpoints: list[Checkpoint] | None = Field(
        default=None, description="which of those that are evaluated; null: all"
    )


class EvalSettings(Settings):
    """Which benchmarks are run on which checkpoints."""

    benchmarks: dict[str, Positive | None] = Field(
        default={"humaneval": None},
        description="benchmarks by name, as `align eval ls` lists them, or `held_out`, each with "
        "the problems that are taken (null: all)",
    )
    checkpoints: list[Checkpoint] | None = Field(
        default=None,
        description="stages evaluated (`start`, `coarse`, `fine`, `mixed`, `sft_on_chosen`, "
        "`dpo`), those of all rounds, or of one (`dpo.r2`); null: all",
    )
    prompt: EvalPrompt = Field(
        default="own",
        description="how a function is asked for: `own`; `qwen`, by which Qwen2.5-Coder was "
        "published; `evalplus`, its prompt for instruct models; `raw`, for base models",
    )
    block: Block = Field(
        default="best",
        description="which fenced block of an answer to our own form is its code: the one that "
        "defines the function, else the longest; the first; the last",
    )
    n: Positive = Field(default=1, description="answers to each problem")
    temperature: Annotated[float, Field(ge=0)] = Field(default=0.0, description="0 is greedy")
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Positive = 400
    concurrency: Positive = 64
    repeated: RepeatedSettings | None = Field(
        default=None,
        description="in a recipe: measures once more, by several answers to each problem",
    )

    @model_validator(mode="after")
    def _draws_differ(self) -> EvalSettings:
        for name in (self.repeated and self.repeated.benchmarks) or ():
            if name not in self.benchmarks:
                raise ValueError(f"repeated.benchmarks names {name}, which benchmarks does not")
        if self.n > 1 and self.temperature == 0:
            raise ValueError("n answers at temperature 0 are one and the same: raise it, or n: 1")
        if self.block != "best" and self.prompt != "own":
            raise ValueError(f"block: {self.block} needs prompt: own; others prefill their block")
        return self


class ExportSettings(Settings):
    """The exported folder; nothing of it is to be set."""


class ReportSettings(Settings):
    """The run's report."""

    title: str = "code-align run"
