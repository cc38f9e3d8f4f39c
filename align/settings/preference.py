"""Settings of the way from a policy to pairs: answers, verdicts, judgements, choices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from align.settings.base import Positive, Settings, Share, Weight

Temperature = Annotated[float, Field(ge=0)]


class SampleSettings(Settings):
    """How answers are sampled from a policy."""

    n: Positive = 4
    temperature: Temperature | Annotated[list[Temperature], Field(min_length=1)] = Field(
        default=0.8, description="one for all, or several that a task's answers take in turn"
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_tokens: Positive = 320
    prompt: Literal["own", "qwen", "evalplus"] = Field(
        default="own",
        description="how a task is asked for: `own`, as it says itself, or by the words of "
        "eval.prompt, with its begun answer and its stops",
    )
    instruction: str = Field(
        default="",
        description="said behind every task that is a chat, for example to answer with code alone",
    )
    max_tasks: Positive | None = Field(
        default=None, description="take only so many tasks; each sampling of a run draws others"
    )
    max_prompt_tokens: Positive | None = Field(
        default=None, description="leave out tasks with longer prompts"
    )
    concurrency: Positive = Field(default=64, description="requests in flight")

    @model_validator(mode="after")
    def _one_way_to_ask(self) -> SampleSettings:
        if self.instruction and self.prompt != "own":
            raise ValueError(f"prompt: {self.prompt} has words of its own: leave out instruction")
        return self


class VerifySettings(Settings):
    """How samples are executed."""

    repeat: Positive = Field(
        default=1, description="runs of each sample; disagreement is `flaky` (see pair.min_runs)"
    )


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
        default=None,
        description="tokens, read and written, after which judging stops; the same command goes on",
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


Rule = Literal[
    "exec_strict",
    "exec_margin",
    "judge_within_accepted",
    "judge_open",
    "efficiency",
    "debug",
    "code_test_rank",
    "agreement",
]


class ExecMarginRule(Settings):
    """Thresholds of `exec_margin`; the defaults are AceCoder's (arXiv:2502.01718)."""

    min_chosen: Share = Field(default=0.8, description="share of the tests the chosen one passes")
    min_gap: Share = Field(default=0.4, description="shares apart; a rejected one passes some")


_Margin = Annotated[float, Field(ge=0, description="scores apart")]
_Floors = Annotated[
    dict[str, float],
    Field(
        description="figures of the judge's calibration (`auroc`, `planted`, `order_consistency`), "
        "each with the least that is trusted; below one, or where it is not known, the rule makes "
        "no pair"
    ),
]


class JudgeWithinRule(Settings):
    """Thresholds of `judge_within_accepted`."""

    min_margin: _Margin = 0.5
    floors: _Floors = Field(default={"planted": 0.6})


class JudgeOpenRule(Settings):
    """Thresholds of `judge_open`."""

    min_margin: _Margin = 1.0
    floors: _Floors = Field(default={"auroc": 0.6})


class EfficiencyRule(Settings):
    """Thresholds of `efficiency`: the slow one's fastest run against the fast one's slowest."""

    min_ratio: Annotated[float, Field(gt=1)] = 1.5
    min_cpu_ms: Annotated[float, Field(ge=0)] = Field(
        default=50.0, description="CPU time of the slow one; less is the start of a process"
    )
    min_runs: Positive = Field(default=2, description="timed runs of each (verify.repeat)")


class CodeTestRankRule(Settings):
    """Settings of `code_test_rank`; the defaults are CodeDPO's (arXiv:2410.05605)."""

    damping: Share = 0.85
    iterations: Positive = 10
    min_margin: Share = Field(default=0.1, description="ranks apart, as a share of the best one's")


class AgreementRule(Settings):
    """Thresholds of `agreement` (CodeT, arXiv:2207.10397)."""

    min_margin: Share = Field(default=0.1, description="scores apart, as a share of the best one's")


class NegativeShares(Settings):
    """Which failing sample stands against an accepted one, as shares of the pairs."""

    nearest: Weight = Field(default=0.5, description="the best outcome, then the most alike code")
    random: Weight = 0.4
    worst: Weight = 0.1

    @model_validator(mode="after")
    def _choose_something(self) -> NegativeShares:
        if self.nearest + self.random + self.worst == 0:
            raise ValueError("all shares are zero: no negative could be chosen")
        return self


class PairSettings(Settings):
    """How preference pairs are built."""

    rules: list[Rule] = Field(
        default=["exec_strict", "judge_within_accepted"],
        description="in this order; an earlier rule takes its pairs first",
    )
    exec_margin: ExecMarginRule = ExecMarginRule()
    judge_within_accepted: JudgeWithinRule = JudgeWithinRule()
    judge_open: JudgeOpenRule = JudgeOpenRule()
    efficiency: EfficiencyRule = EfficiencyRule()
    code_test_rank: CodeTestRankRule = CodeTestRankRule()
    agreement: AgreementRule = AgreementRule()
    min_runs: Positive = Field(
        default=1, description="runs that a chosen one's verdict rests on (verify.repeat)"
    )
    weak: bool = Field(
        default=False, description="trust tests that ran inside the program's own process"
    )
    truncated_negatives: bool = Field(
        default=False, description="reject answers that were cut; it teaches length"
    )
    negatives: NegativeShares = NegativeShares()
    per_task: Positive = Field(default=4, description="pairs of one task at the most")
    per_sample: Positive = Field(default=2, description="uses of one sample at the most")
    max_pairs: Positive | None = Field(
        default=None,
        description="pairs of samples in all, general ones aside; languages and tasks take turns",
    )
    max_similarity: Share = Field(default=0.98, description="nearer pairs are left out")
    max_length_ratio: Annotated[float, Field(ge=1)] = Field(
        default=2.0, description="tokens of the longer answer over those of the shorter"
    )
    common: str | None = Field(
        default=None, description="a table of general pairs that are mixed in"
    )
    common_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="share of the general pairs, where there are some"
    )
