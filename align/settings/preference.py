"""Settings of the way from a policy to pairs: answers, verdicts, judgements, choices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from align.settings.base import Positive, Settings, Share


class SampleSettings(Settings):
    """How answers are sampled from a policy."""

    n: Positive = 4
    temperature: Annotated[float, Field(ge=0)] = 0.8
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_tokens: Positive = 320
    max_tasks: Positive | None = Field(default=None, description="take only so many tasks")
    max_prompt_tokens: Positive | None = Field(
        default=None, description="leave out tasks with longer prompts"
    )
    concurrency: Positive = Field(default=64, description="requests in flight")


class VerifySettings(Settings):
    """How samples are executed."""

    repeat: Positive = Field(default=1, description="runs of each sample; disagreement is `flaky`")


class JudgeSettings(Settings):
    """Which judge looks at which samples."""

    model: str | None = Field(default=None, description="Hub id or folder; empty: the start model")
    endpoint: str | None = Field(
        default=None, description="an OpenAI-compatible URL to use as it is"
    )
    rubric: str = Field(default="code_quality", description="a shipped rubric or a YAML file")
    max_samples: Positive | None = None
    executed: bool = Field(
        default=True, description="judge samples that were executed, not only those of open tasks"
    )
    comparisons: Positive = Field(
        default=24, description="comparisons of one task at the most, where the rubric is pairwise"
    )
    planted: Annotated[int, Field(ge=0)] = Field(
        default=8,
        description="accepted samples that are made worse on purpose, to see whether a judge of "
        "quality notices; 0: none",
    )
    budget_tokens: Positive | None = Field(
        default=None, description="tokens, read and written, after which nothing more is judged"
    )
    rationale_tokens: Positive = 64
    concurrency: Positive = 32


class CalibrationSettings(JudgeSettings):
    """How a judge is measured against execution."""

    price_read: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="price of a million tokens read, for the cost of verdicts"
    )
    price_written: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="price of a million tokens written"
    )


class SelectSettings(Settings):
    """Rejection sampling: which samples become rows of the fine stage."""

    per_task: Positive = Field(default=1, description="best accepted samples kept of one task")


class PairSettings(Settings):
    """How preference pairs are built."""

    rules: list[Literal["exec_strict", "judge_within_accepted"]] = Field(
        default=["exec_strict", "judge_within_accepted"]
    )
    per_task: Positive = Field(default=4, description="pairs of one task at the most")
    per_sample: Positive = Field(default=2, description="uses of one sample at the most")
    max_similarity: Share = Field(default=0.98, description="nearer pairs are left out")
    min_judge_margin: Annotated[float, Field(ge=0)] = 0.5
