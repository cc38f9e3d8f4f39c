"""The settings of each stage: strict, frozen, light to import. A recipe is made of these."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from align.precision import Precision

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
Tracker = Literal["tensorboard", "wandb", "trackio"]
Weight = Annotated[float, Field(ge=0.0)]
FimLevel = Literal[
    "expression", "statement", "block", "function", "class", "line", "lines", "random"
]
FimWrapper = Literal["raw", "raw_spm", "chatml", "text"]


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


def _default_image() -> Any:
    return os.environ.get("ALIGN_SANDBOX_IMAGE") or "python"


class SandboxSettings(Settings):
    """Where untrusted code runs."""

    engine: Literal["auto", "docker", "namespaces"] = "auto"
    isolation: Literal["container+ns", "container", "ns"] | None = Field(
        default=None, description="name a level to accept it although the engine could do better"
    )
    workers: Positive = Field(
        default=2, description="programs at once; the number of cores is right"
    )
    image: Literal["python", "python-data"] = Field(
        default_factory=_default_image,
        validate_default=True,
        description="what programs see: `python-data` has numpy and pandas; default: "
        "$ALIGN_SANDBOX_IMAGE, else `python`",
    )
    runtime: str | None = Field(
        default=None, description="the Docker engine's runtime of containers, such as `runsc`"
    )


class ServingSettings(Settings):
    """How a model is served for sampling, judging and evaluation."""

    endpoint: str | None = Field(
        default=None, description="an OpenAI-compatible URL to use as it is"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto",
        description="`auto`: on a CPU bfloat16 or float32, what it multiplies faster; on a GPU "
        "what vLLM takes",
    )
    max_model_len: Positive = 2048
    max_num_seqs: Positive = 64
    kv_cache_gib: Annotated[float, Field(gt=0)] = 1.0
    eager: bool = Field(
        default=True, description="skip compiling: right for short jobs and for CPUs"
    )
    prefix_caching: bool = Field(
        default=True,
        description="compute once what prompts begin with alike; off, a number's last digits do "
        "not depend on what was asked before",
    )
    start_timeout_s: Positive = 300


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


class RowSource(Settings):
    """A table of instruction rows. A plain path or Hub id stands for one without more settings."""

    path: str = Field(description="a file, a folder, or a Hub id")
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1.0,
        description="how often each row is taken: 0.5 a half of them, 2.5 two and a half times",
    )
    split: str = Field(default="train", description="split of a Hub data set")
    subset: str | None = Field(default=None, description="subset of a Hub data set")
    licence: str = Field(default="unknown", description="licence of rows that name none")

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


ChecklistItem = Literal[
    "consistency",
    "relevance",
    "difficulty",
    "code_exists",
    "correctness",
    "style",
    "clarity",
    "comments",
    "educational",
]
CHECKLIST: tuple[ChecklistItem, ...] = get_args(ChecklistItem)


class QualitySettings(Settings):
    """A filter by the rows' checklist scores."""

    weights: dict[ChecklistItem, Annotated[float, Field(ge=0)]] = Field(
        default={item: 1.0 for item in CHECKLIST},
        description="of each item; 0 or left out: ignored",
    )
    min_score: float = Field(description="rows with a lower weighted mean, or without one, go out")

    @model_validator(mode="after")
    def _has_weight(self) -> QualitySettings:
        if not sum(self.weights.values()) > 0:
            raise ValueError("at least one item needs a weight above 0")
        return self


class DataSettings(Settings):
    """Instruction rows and tasks: where from, what is taken out, what is held out."""

    rows: list[RowSource] = Field(default_factory=list, description="tables of instruction rows")
    tasks: list[str] = Field(default_factory=list, description="tables of tasks")
    decontaminate: list[str] = Field(
        default=["humaneval"],
        description="benchmarks whose text must not be in it, by name or as tables; those of "
        "`eval` are added",
    )
    ngram: Positive = Field(default=10, description="words in a row that count as contamination")
    lcs_words: Positive | None = Field(
        default=13,
        description="words of a common subsequence that count as contamination; null: no check",
    )
    lcs_share: Share = Field(
        default=0.6, description="share of the shorter text that the subsequence must reach too"
    )
    near_duplicate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=0.8,
        description="similarity of prompt and of answer that makes a duplicate; null: exact only",
    )
    max_no_code: Share | None = Field(
        default=None, description="share of rows without code at the most; null: no cap"
    )
    quality: QualitySettings | None = Field(
        default=None, description="filter by checklist scores; null: none"
    )
    held_out: Share = Field(
        default=0.0, description="share of the tasks kept for evaluation, by problem"
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


class FimSettings(Settings):
    """Fill-in-the-middle rows cut from real source files."""

    corpus: list[str] = Field(
        default=["installed"],
        description="folders, git repositories (folder or URL), archives, Hub data sets of source "
        "files; `installed` is the environment's own packages",
    )
    languages: list[str] = Field(
        default=["python"],
        description="names, or NAME=.ending of any other language of tree-sitter-language-pack",
    )
    licences: list[str] = Field(
        default=[
            *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC"),
            *("MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
        ],
        description="SPDX ids that are taken; NOASSERTION is code that states no licence",
    )
    hub_files: Positive = Field(
        default=20_000, description="files taken from each Hub data set, from its start"
    )
    rows: Positive = 100
    levels: dict[FimLevel, Weight] = Field(
        default={
            "expression": 1.0,
            "statement": 1.0,
            "block": 1.0,
            "function": 1.0,
            "class": 0.25,
            "line": 2.0,
            "lines": 1.0,
            "random": 1.0,
        },
        description="weights of what is cut out: syntax nodes, whole lines, random characters",
    )
    max_middle_tokens: Positive = 128
    max_context_tokens: Positive = Field(default=384, description="prefix and suffix together")
    wrappers: dict[FimWrapper, Weight] = Field(
        default={"raw": 1.0},
        description="weights of `raw` (PSM), `raw_spm`, `chatml` (raw in a chat), `text`",
    )
    repository: Share = Field(
        default=0.0, description="share of the rows with other files of the repository before them"
    )
    max_repository_tokens: Positive = Field(default=512, description="of those other files")
    decontaminate: list[str] = Field(
        default=["humaneval"], description="benchmarks whose text must not be in a row"
    )
    ngram: Positive = Field(default=10, description="words in a row that count as contamination")
    lcs_words: Positive | None = Field(
        default=13,
        description="words of a common subsequence that count as contamination; null: no check",
    )
    lcs_share: Share = Field(
        default=0.6, description="share of the shorter text that the subsequence must reach too"
    )
    near_duplicate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=0.8, description="similarity of two files that makes a duplicate; null: exact only"
    )
    add_tokens: bool = Field(
        default=False,
        description="give a model without FIM tokens Qwen's, and train and save their rows",
    )

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        for name, weights in (("levels", self.levels), ("wrappers", self.wrappers)):
            if not any(weight > 0 for weight in weights.values()):
                raise ValueError(f"{name}: at least one weight must be above 0")
        return self


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
    rationale_tokens: Positive = 64
    concurrency: Positive = 32


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


EvalPrompt = Literal["own", "qwen", "evalplus", "raw"]


class EvalSettings(Settings):
    """Which benchmarks are run on which checkpoints."""

    benchmarks: dict[str, Positive | None] = Field(
        default={"humaneval": None},
        description="benchmarks by name, as `align eval ls` lists them, or `held_out`, each with "
        "the problems that are taken (null: all)",
    )
    checkpoints: list[Literal["start", "coarse", "fine", "mixed", "dpo"]] | None = Field(
        default=None,
        description="stages evaluated (`start`, `coarse`, `fine`, `mixed`, `dpo`); null: all",
    )
    prompt: EvalPrompt = Field(
        default="own",
        description="how a function is asked for: `own`; `qwen`, by which Qwen2.5-Coder was "
        "published; `evalplus`, its prompt for instruct models; `raw`, for base models",
    )
    n: Positive = Field(default=1, description="answers to each problem")
    temperature: Annotated[float, Field(ge=0)] = Field(default=0.0, description="0 is greedy")
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Positive = 400
    concurrency: Positive = 64

    @model_validator(mode="after")
    def _draws_differ(self) -> EvalSettings:
        if self.n > 1 and self.temperature == 0:
            raise ValueError("n answers at temperature 0 are one and the same: raise it, or n: 1")
        return self


class ExportSettings(Settings):
    """The exported folder; nothing of it is to be set."""


class ReportSettings(Settings):
    """The run's report."""

    title: str = "code-align run"
