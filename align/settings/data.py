"""Settings of data: instruction rows and tasks, and infilling rows."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from align.settings.base import Positive, Settings, Share, Weight

FimLevel = Literal[
    "expression", "statement", "block", "function", "class", "line", "lines", "random"
]
FimWrapper = Literal["raw", "raw_spm", "chatml", "text"]
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


class MakeSettings(Settings):
    """Tasks with tests out of instructions that are answered by a Python function."""

    rows: list[RowSource] = Field(description="tables of instruction rows")
    tests: Positive = Field(default=8, description="calls that a task is tested by, at the most")
    min_tests: Positive = Field(default=3, description="tasks with fewer are left out")
    inputs: Positive = Field(
        default=32, description="inputs that are tried: the example's, and others of its kind"
    )
    mutants: Positive = Field(
        default=12, description="wrong programs that are made of the answer, to try the tests on"
    )
    min_told: Share = Field(
        default=0.7, description="share of the wrong programs that the tests must tell"
    )

    @model_validator(mode="after")
    def _can_have_tests(self) -> MakeSettings:
        if not self.min_tests <= self.tests <= self.inputs:
            raise ValueError("min_tests <= tests <= inputs does not hold: no task could be made")
        return self


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
    near_duplicate: Annotated[float, Field(ge=0.7, le=1)] | None = Field(
        default=0.8,
        description="similarity of prompt and of answer that makes a duplicate, 0.7 at least (of "
        "pairs below that too few are found); null: exact only",
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
    function_form: bool = Field(
        default=False,
        description="ask each task to train on a second time: as a function to complete, its "
        "docstring with an example",
    )


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
