"""A recipe: one strict, frozen model of a whole run, read from YAML."""

from __future__ import annotations

import difflib
import importlib.resources
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from align.benchmark_files import KNOWN_BENCHMARKS, find_benchmark
from align.errors import CheckpointError, InputError, RecipeError
from align.settings import (
    DataSettings,
    DpoSettings,
    EvalSettings,
    ExportSettings,
    FimSettings,
    JudgeSettings,
    MakeSettings,
    PairSettings,
    Positive,
    ReportSettings,
    SampleSettings,
    SandboxSettings,
    SelectSettings,
    ServingSettings,
    Settings,
    SftSettings,
    VerifySettings,
)
from align.tables import looks_like_hub_id, resolve_table

# YAML 1.1 reads 1e-4 as text, because it has no dot; everybody means the number.
_EXPONENT = re.compile(r"[0-9]+[eE][+-]?[0-9]+")


class SftStages(Settings):
    """The supervised stages, in their order; a stage that is left out is not run."""

    coarse: SftSettings | None = None
    fine: SftSettings | None = None
    mixed: SftSettings | None = None


class SampleStages(Settings):
    """Sampling for rejection sampling (`fine`) and for preference pairs (`round`)."""

    fine: SampleSettings = SampleSettings()
    round: SampleSettings = SampleSettings()


class ShardSettings(Settings):
    """When a shard of a table closes."""

    rows: Positive = 5000
    seconds: float = Field(default=60.0, gt=0)


class Recipe(Settings):
    """A whole run. A section that is left out, or null, leaves its stage out."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run's folder")
    model: str = Field(description="Hub id or folder of the start checkpoint")
    seed: int = 0
    keep: Literal["all", "last"] | Positive = Field(
        default="all",
        description="which stages' merged weights stay on disk when nothing needs them",
    )
    shards: ShardSettings = ShardSettings()
    sandbox: SandboxSettings = Field(default_factory=SandboxSettings)
    serving: ServingSettings = ServingSettings()
    make: MakeSettings | None = Field(
        default=None, description="tasks that are made beside those of `data.tasks`"
    )
    data: DataSettings
    fim: FimSettings | None = None
    sft: SftStages = SftStages()
    sample: SampleStages = SampleStages()
    verify: VerifySettings = VerifySettings()
    select: SelectSettings = SelectSettings()
    judge: JudgeSettings | None = None
    pair: PairSettings = PairSettings()
    dpo: DpoSettings | None = None
    rounds: Positive = Field(
        default=1, description="how often the policy is sampled, paired and trained by dpo"
    )
    reference: Literal["round", "first"] = Field(
        default="round",
        description="what dpo keeps near to: each round's own start, or that of the first round",
    )
    arms: list[Literal["sft_on_chosen", "dpo"]] = Field(
        default=["dpo"],
        description="what is trained on the pairs; sft_on_chosen is a control beside dpo: from the "
        "same start, supervised, on the same chosen answers",
    )
    control: SftSettings | None = Field(
        default=None, description="settings of sft_on_chosen; null: those of dpo that both have"
    )
    eval: EvalSettings | None = None
    export: ExportSettings | None = None
    report: ReportSettings | None = ReportSettings()

    @model_validator(mode="after")
    def _arms_compare(self) -> Recipe:
        if "dpo" not in self.arms:
            raise ValueError(
                "arms must name dpo, which the run goes on from; for no dpo: dpo: null"
            )
        if self.control and "sft_on_chosen" not in self.arms:
            raise ValueError("control sets an arm that does not run: add sft_on_chosen to arms")
        if "sft_on_chosen" in self.arms and self.dpo and self.dpo.held_out:
            raise ValueError(
                "dpo.held_out keeps pairs that the arm sft_on_chosen would train on: leave "
                "one of the two out"
            )
        if "sft_on_chosen" in self.arms and self.dpo and self.dpo.max_pairs is not None:
            raise ValueError(
                "dpo.max_pairs draws pairs that the arm sft_on_chosen would not train on: set "
                "pair.max_pairs instead, which both see"
            )
        return self


def find_recipe(name: str) -> Path:
    """Returns the file of a recipe: a path, or else a shipped recipe of that name.

    Raises:
        RecipeError: No such file.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    wanted = name.removeprefix("recipes/").removesuffix(".yaml")
    if wanted in shipped:
        return shipped[wanted]
    near = difflib.get_close_matches(wanted, shipped, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; shipped are: {', '.join(shipped)}"
    raise RecipeError(f"no recipe {name}: no such file{hint}")


def shipped_recipes() -> dict[str, Path]:
    """Returns the recipes that come with the package, by name (`demo`, `lora/...`)."""
    root = Path(str(importlib.resources.files("recipes")))
    return {
        str(path.relative_to(root).with_suffix("")): path for path in sorted(root.rglob("*.yaml"))
    }


def about_recipe(path: Path) -> str:
    """Returns what a recipe says of itself: the paragraph behind its command, in one line."""
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    paragraphs = head.replace("\n# ", "\n").split("\n#\n")
    return " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else ""


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies `--set key=value` overrides.

    Raises:
        RecipeError: The file is no YAML, or a key or a value is wrong; the message names each.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path} can't be read: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to settings")
    for override in overrides:
        apply_override(content, override)
    return parse_settings(Recipe, content, str(path))


def apply_override(content: dict[str, Any], override: str) -> None:
    """Sets `a.b=c` in nested mappings; the value is read as YAML.

    Raises:
        RecipeError: The override has no `=`, or goes through something that is no mapping.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {override}: write it as key.sub_key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override}: the value is no YAML: {error}") from error
    *parents, last = key.split(".")
    node: Any = content
    for part in parents:
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
        if not isinstance(node, dict):
            raise RecipeError(f"--set {override}: {part} is no section")
    node[last] = value


ModelT = TypeVar("ModelT", bound=BaseModel)


def parse_settings(model: type[ModelT], content: dict[str, Any], place: str) -> ModelT:
    """Checks plain content against a settings model.

    Raises:
        RecipeError: Names each wrong key by its path, with the nearest known key.
    """
    try:
        return model.model_validate(_numbers(content))
    except ValidationError as error:
        lines = [_explain(model, issue) for issue in error.errors()]
        raise RecipeError("\n".join(f"{place}: {line}" for line in lines)) from error


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    return value


def _explain(model: type[BaseModel], issue: Any) -> str:
    path = [part for part in issue["loc"] if not str(part).startswith(("literal[", "constrained"))]
    dotted = ".".join(str(part) for part in path)
    if issue["type"] == "extra_forbidden":
        parent = _model_at(model, path[:-1])
        known = list(parent.model_fields) if parent else []
        near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key {dotted}; {hint}"
    if issue["type"] == "missing":
        return f"{dotted} is missing"
    return f"{dotted} = {issue['input']!r}: {issue['msg']}"


def _model_at(model: type[BaseModel], path: Sequence[Any]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int):
            continue  # an entry of a list, whose model is known already
        field = current.model_fields.get(str(part)) if current else None
        current = _model_in(field.annotation) if field else None
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) in (
        typing.Union,
        list,
    ):
        return next(filter(None, map(_model_in, typing.get_args(annotation))), None)
    return None


def check_files(recipe: Recipe, base: Path) -> None:
    """Checks that every table a recipe names is there, before anything starts.

    Raises:
        RecipeError: Names the key and the file.
    """
    named = _tables(recipe)
    for key, names in named.items():
        for index, name in enumerate(names):
            if key.endswith(".decontaminate") and name in KNOWN_BENCHMARKS:
                continue
            if resolve_table(name, base) is None and not looks_like_hub_id(name):
                place = key if key == "pair.common" else f"{key}[{index}]"
                raise RecipeError(
                    f"{place} = {name}: no such file or folder (looked here, beside the "
                    "recipe and below $ALIGN_DATA)"
                )
    _check_eval(recipe)
    if recipe.fim:
        from align.fim.sources import source_kind

        for index, name in enumerate(recipe.fim.corpus):
            if source_kind(name) is None:
                raise RecipeError(
                    f"fim.corpus[{index}] = {name}: no folder, git repository, archive or Hub id"
                )
    rubric = recipe.judge.rubric if recipe.judge else ""
    if rubric.endswith((".yaml", ".yml")) and not Path(rubric).is_file():
        raise RecipeError(f"judge.rubric = {rubric}: no such file")
    from align.checkpoint import local_folder

    try:
        is_there = local_folder(recipe.model) is not None
    except CheckpointError:
        is_there = False
    if not is_there and not looks_like_hub_id(recipe.model):
        raise RecipeError(f"model = {recipe.model}: no such folder, and no Hub id (owner/name)")


def _check_eval(recipe: Recipe) -> None:
    if recipe.eval is None:
        return
    known = (*KNOWN_BENCHMARKS, "held_out")
    for name in recipe.eval.benchmarks:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise RecipeError(f"eval.benchmarks.{name} is not known; {hint}")
        if name in KNOWN_BENCHMARKS:
            try:
                find_benchmark(name)
            except InputError as error:
                raise RecipeError(f"eval.benchmarks: {error}") from error
    made = ["start", *(n for n in ("coarse", "fine", "mixed") if getattr(recipe.sft, n))]
    arms = recipe.arms if recipe.dpo else []
    rounds = [f"{arm}.r{number + 1}" for arm in arms for number in range(recipe.rounds)]
    made += arms
    repeated = recipe.eval.repeated
    for key, names in (
        ("eval.checkpoints", recipe.eval.checkpoints),
        ("eval.repeated.checkpoints", repeated and repeated.checkpoints),
    ):
        for index, name in enumerate(names or ()):
            if name not in (*made, *rounds):
                raise RecipeError(
                    f"{key}[{index}] = {name}: this recipe makes no such checkpoint; it has "
                    f"{', '.join(made)}"
                )


def _tables(recipe: Recipe) -> dict[str, list[str]]:
    data, make = recipe.data, recipe.make
    return {
        "make.rows": [source.path for source in make.rows] if make else [],
        "data.rows": [source.path for source in data.rows],
        "data.tasks": data.tasks,
        "data.decontaminate": data.decontaminate,
        "fim.decontaminate": recipe.fim.decontaminate if recipe.fim else [],
        "pair.common": [recipe.pair.common] if recipe.pair.common else [],
    }


def copy_recipe(source: Path) -> str:
    """Returns a recipe's text with the tables beside it named by their full path."""
    text = source.read_text(encoding="utf-8")
    named = {name for names in _tables(load_recipe(source)).values() for name in names}
    beside = [
        name
        for name in sorted(named, key=len, reverse=True)
        if not Path(name).is_absolute() and (source.parent / name).exists()
    ]
    if not beside:
        return text
    # Whole names, and no key of the recipe.
    names = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, beside))})(?![\w./-]|\s*:)")
    return names.sub(lambda found: str((source.parent / found[0]).resolve()), text)
