"""The settings of each stage: strict, frozen, light to import. A recipe is made of these."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
Tracker = Literal["tensorboard", "wandb", "trackio"]


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


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
        default="python", description="what programs see: `python-data` has numpy and pandas"
    )
    runtime: str | None = Field(
        default=None, description="the Docker engine's runtime of containers, such as `runsc`"
    )


class ServingSettings(Settings):
    """How a model is served for sampling, judging and evaluation."""

    endpoint: str | None = Field(
        default=None, description="an OpenAI-compatible URL to use as it is"
    )
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    max_model_len: Positive = 2048
    max_num_seqs: Positive = 64
    kv_cache_gib: Annotated[float, Field(gt=0)] = 1.0
    eager: bool = Field(
        default=True, description="skip compiling: right for short jobs and for CPUs"
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


class DataSettings(Settings):
    """Instruction rows and tasks: where from, what is taken out, what is held out."""

    rows: list[str] = Field(default_factory=list, description="tables of chat rows")
    tasks: list[str] = Field(default_factory=list, description="tables of tasks")
    decontaminate: list[str] = Field(
        default=["humaneval"], description="benchmarks whose text must not be in it"
    )
    ngram: Positive = Field(default=10, description="words in a row that count as contamination")
    held_out: Share = Field(
        default=0.0, description="share of the tasks kept for evaluation, by problem"
    )


class SftSettings(Settings):
    """One supervised fine-tuning stage; coarse, fine and mixed differ by settings only."""

    mix: dict[str, Share] = Field(
        default_factory=dict,
        description="share of each input in the rows (`data`, `fine`, `fim`); empty: all rows",
    )
    max_rows: Positive | None = Field(default=None, description="rows of one pass, after mixing")
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
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    save_steps: Positive = Field(default=50, description="steps between two points to resume from")


class FimSettings(Settings):
    """Fill-in-the-middle rows cut from real source files."""

    corpus: list[str] = Field(
        default=["installed"],
        description="folders of source files; `installed` is the environment's own packages",
    )
    rows: Positive = 100
    max_middle_chars: Positive = 400
    max_context_chars: Positive = Field(default=1200, description="prefix and suffix together")


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
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    save_steps: Positive = 50


class EvalSettings(Settings):
    """Which benchmarks are run on which checkpoints."""

    benchmarks: dict[str, Positive | None] = Field(
        default={"humaneval": None},
        description="`humaneval`, `humaneval_infilling`, `held_out`: problems taken (null: all)",
    )
    checkpoints: list[str] | None = Field(
        default=None,
        description="stages evaluated (`start`, `coarse`, `fine`, `mixed`, `dpo`); null: all",
    )
    max_tokens: Positive = 400
    concurrency: Positive = 64


class ExportSettings(Settings):
    """What the exported folder is."""

    repo: str | None = Field(
        default=None, description="Hub id that `align export --push` uploads to"
    )


class ReportSettings(Settings):
    """The run's report."""

    title: str = "code-align run"
