"""From a recipe to its stage instances: which stages, with which settings, from which inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from align.benchmark_files import KNOWN_BENCHMARKS, SOURCES, benchmark_sha, text_source
from align.errors import CheckpointError, InputError, RecipeError
from align.lineage import REPEATED, checkpoint_name
from align.manifest import path_sha
from align.recipe import Recipe
from align.settings import (
    DpoSettings,
    FimSettings,
    JudgeSettings,
    MakeSettings,
    Settings,
    SftSettings,
)
from align.tables import resolve_table


@dataclass(frozen=True)
class Upstream:
    """A part of what an earlier instance wrote."""

    instance: str
    part: str = ""


@dataclass(frozen=True)
class External:
    """A file or folder from outside the run.

    Attributes:
        key: The recipe's key that names it, for error messages.
        path: Where it is.
        sha: Computes its content hash.
        named: What the recipe says there, where no setting of the stage holds it.
    """

    key: str
    path: Path
    sha: Callable[[], str]
    named: str = ""


Ref = Upstream | External

#: Of serving and sandbox, what can change a row.
SERVING_KEYS = frozenset({"dtype", "max_model_len", "eager", "endpoint"})
SANDBOX_KEYS = frozenset({"engine", "isolation", "image"})


@dataclass(frozen=True)
class Instance:
    """One stage with its settings and inputs.

    Attributes:
        id: Its id and folder name in the run, for example `sft.coarse`.
        stage: The module of `align` whose `run` does it.
        title: What it does, for people.
        extra: Settings from elsewhere in the recipe that can change its rows.
    """

    id: str
    stage: str
    title: str
    settings: Settings
    inputs: Mapping[str, Ref]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        """Whether it ends in a checkpoint."""
        return self.stage in ("sft", "dpo")

    def upstream(self) -> set[str]:
        """Returns the ids of the instances that it reads."""
        return {ref.instance for ref in self.inputs.values() if isinstance(ref, Upstream)}


class _Compiler:
    """Collects the instances of one recipe in the order in which they run.

    An evaluation stands right behind the sampling of the same checkpoint, so that one server
    serves both.
    """

    def __init__(self, recipe: Recipe, base: Path) -> None:
        self.recipe = recipe
        self.base = base
        self.instances: list[Instance] = []
        serving = recipe.serving
        self.serving = {
            "serving": serving.model_dump(mode="json", include=set(SERVING_KEYS)),
        }
        self.sandbox = {
            "sandbox": recipe.sandbox.model_dump(mode="json", include=set(SANDBOX_KEYS))
        }
        self.start: Ref = self._start_model()
        self.policy: Ref = self.start

    def add(
        self,
        name: str,
        stage: str,
        title: str,
        settings: Settings,
        inputs: Mapping[str, Ref],
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.instances.append(Instance(name, stage, title, settings, inputs, extra or {}))

    def has(self, name: str) -> bool:
        return any(instance.id == name for instance in self.instances)

    def _start_model(self) -> External:
        from align.checkpoint import checkpoint_sha, resolve_model

        named = self.recipe.model
        folder = resolve_model(named)
        return External("model", folder, partial(checkpoint_sha, folder), named)

    def table(self, key: str, name: str) -> External:
        path = resolve_table(name, self.base)
        if path is None:
            # A Hub id: the name is its identity here, the rows' hash is the data stage's.
            return External(key, Path(name), lambda: f"hub:{name}")
        return External(key, path, partial(path_sha, path))

    def measures(self, benchmarks: Collection[str]) -> dict[str, Ref]:
        """Returns the problems of benchmarks as inputs of what is measured by them."""
        inputs: dict[str, Ref] = {
            f"problems.{name}": _problems(name) for name in benchmarks if name in KNOWN_BENCHMARKS
        }
        if "held_out" in benchmarks:
            inputs["held_out"] = Upstream("data", "held_out")
        return inputs

    def against(self, key: str, named: Sequence[str], inputs: dict[str, Ref]) -> list[str]:
        """Returns the benchmarks that rows must not overlap, and adds their data to the inputs.

        What is measured must not be trained on, whether the recipe says so or not.
        """
        measured = self.recipe.eval.benchmarks if self.recipe.eval else {}
        names = list(dict.fromkeys([*named, *(name for name in measured if name != "held_out")]))
        for name in names:
            if name in KNOWN_BENCHMARKS:
                inputs[f"problems.{text_source(name)}"] = _problems(text_source(name))
            else:
                inputs[f"benchmark.{name}"] = self.table(f"{key}: {name}", name)
        return names

    def make(self, settings: MakeSettings) -> None:
        inputs: dict[str, Ref] = {
            f"rows.{index}": self.table(f"make.rows[{index}]", source.path)
            for index, source in enumerate(settings.rows)
        }
        title = "makes tasks with tests out of instructions"
        self.add("make", "making", title, settings, inputs, self.sandbox)

    def data(self) -> None:
        data = self.recipe.data
        inputs: dict[str, Ref] = {}
        for index, source in enumerate(data.rows):
            inputs[f"rows.{index}"] = self.table(f"data.rows[{index}]", source.path)
        for index, name in enumerate(data.tasks):
            inputs[f"tasks.{index}"] = self.table(f"data.tasks[{index}]", name)
        if self.has("make"):
            inputs[f"tasks.{len(data.tasks)}"] = Upstream("make", "tasks")
        against = self.against("data.decontaminate", data.decontaminate, inputs)
        settings = data.model_copy(update={"decontaminate": against})
        self.add("data", "data", "reads, cleans, mixes, splits", settings, inputs)

    def sft(self, name: str, settings: SftSettings, title: str) -> None:
        sources = {"data": Upstream("data", "rows")}
        if self.has("select.fine"):
            sources["fine"] = Upstream("select.fine", "rows")
        if self.has("fim"):
            sources["fim"] = Upstream("fim", "rows")
        default = {"coarse": "data", "fine": "fine", "mixed": "fine"}[name]
        wanted = list(settings.mix) or [default]
        for source in wanted:
            if source not in sources:
                known = ", ".join(sources)
                raise RecipeError(f"sft.{name}.mix.{source}: no such rows here; there are {known}")
        inputs: dict[str, Ref] = {"model": self.policy}
        inputs.update({source: sources[source] for source in wanted})
        self.add(f"sft.{name}", "sft", title, settings, inputs)
        self.policy = Upstream(f"sft.{name}", "model")

    def sample(self, name: str, settings: Settings) -> None:
        if not self.recipe.data.tasks and not self.has("make"):
            raise RecipeError(f"data.tasks is empty, but sample.{name} needs tasks to sample from")
        inputs = {"model": self.policy, "tasks": Upstream("data", "tasks")}
        self.add(f"sample.{name}", "sampling", "samples the policy", settings, inputs, self.serving)

    def verify(self, name: str) -> None:
        inputs = {
            "tasks": Upstream("data", "tasks"),
            "samples": Upstream(f"sample.{name}", "samples"),
        }
        title = "runs every sample against its tests"
        self.add(f"verify.{name}", "verify", title, self.recipe.verify, inputs, self.sandbox)

    def judge(self, name: str, title: str, settings: JudgeSettings, tables: dict[str, Ref]) -> None:
        """Adds a judge of the samples in `tables`, and its judgements to them."""
        from align.judge_inputs import rubric_sha

        model = self.start
        if settings.model and not settings.endpoint:
            from align.checkpoint import checkpoint_sha, resolve_model

            try:
                folder = resolve_model(settings.model)
            except CheckpointError as error:
                raise RecipeError(f"judge.model = {settings.model}: {error}") from error
            model = External("judge.model", folder, partial(checkpoint_sha, folder))
        inputs = {"tasks": Upstream("data", "tasks"), **tables}
        if not settings.endpoint:
            inputs["model"] = model
        try:
            extra = {**self.serving, "rubric_sha": rubric_sha(settings.rubric)}
        except InputError as error:
            raise RecipeError(f"judge.rubric = {settings.rubric}: {error}") from error
        self.add(f"judge.{name}", "judging", title, settings, inputs, extra)
        tables["judgements"] = Upstream(f"judge.{name}", "judgements")

    def select(self) -> None:
        """Adds rejection sampling; where there is a judge, it chooses for tasks without tests."""
        tables: dict[str, Ref] = {
            "samples": Upstream("sample.fine", "samples"),
            "verdicts": Upstream("verify.fine", "verdicts"),
        }
        if judge := self.recipe.judge:
            judge = judge.model_copy(update={"executed": False, "max_samples": None})
            self.judge("fine", "scores answers to tasks without tests", judge, tables)
        self.add("select.fine", "selection", "rejection sampling", self.recipe.select, tables)

    def evaluate(self, name: str, model: Ref) -> None:
        settings = self.recipe.eval
        if settings is None:
            return
        if not _chosen(name, settings.checkpoints) or self.has(f"eval.{name}"):
            return
        inputs = {"model": model, **self.measures(settings.benchmarks)}
        extra = {**self.serving, **self.sandbox}
        # Which other checkpoints are measured changes nothing here.
        own = settings.model_copy(update={"checkpoints": None, "repeated": None})
        self.add(f"eval.{name}", "evaluation", "pass@1 of the checkpoint", own, inputs, extra)
        again = settings.repeated
        if again is None or not _chosen(name, again.checkpoints):
            return
        taken = settings.benchmarks if again.benchmarks is None else again.benchmarks
        benchmarks = {key: settings.benchmarks[key] for key in taken}
        changes = {"n": again.n, "temperature": again.temperature, "benchmarks": benchmarks}
        title = f"pass@1 from {again.n} answers to each problem"
        own = own.model_copy(update=changes)
        inputs = {"model": model, **self.measures(benchmarks)}
        self.add(f"eval.{REPEATED}{name}", "evaluation", title, own, inputs, extra)

    def fim(self, settings: FimSettings) -> None:
        from align.fim import corpus_sha

        named = Path(", ".join(settings.corpus))
        corpus = External("fim.corpus", named, partial(corpus_sha, settings))
        inputs: dict[str, Ref] = {"model": self.start, "corpus": corpus}
        against = self.against("fim.decontaminate", settings.decontaminate, inputs)
        settings = settings.model_copy(update={"decontaminate": against})
        self.add("fim", "fim", "cuts infilling rows from source files", settings, inputs)
        if settings.add_tokens:
            inputs = {"model": self.policy, "rows": Upstream("fim", "rows")}
            self.add("fim.tokens", "fim.tokens", "adds and trains FIM tokens", settings, inputs)
            self.policy = Upstream("fim.tokens", "model")

    def rounds(self) -> None:
        """Adds the rounds of sampling, pairing and training, each from the last one's end."""
        dpo = self.recipe.dpo
        if dpo is None:
            return
        first = self.policy
        for number in range(1, self.recipe.rounds + 1):
            self.round(f"r{number}", dpo, first)
        self.evaluate(_name_of(self.policy), self.policy)

    def round(self, name: str, dpo: DpoSettings, first: Ref) -> None:
        start = self.policy
        self.sample(name, self.recipe.sample.round)
        self.evaluate(_name_of(start), start)
        self.verify(name)
        tables: dict[str, Ref] = {
            "samples": Upstream(f"sample.{name}", "samples"),
            "verdicts": Upstream(f"verify.{name}", "verdicts"),
        }
        if self.recipe.judge is not None:
            self.judge(name, "scores by a rubric", self.recipe.judge, tables)
        tables["tasks"] = Upstream("data", "tasks")
        if self.recipe.pair.common:
            tables["common"] = self.table("pair.common", self.recipe.pair.common)
        pair = f"pair.{name}"
        self.add(pair, "preference", "builds preference pairs", self.recipe.pair, tables)
        if "sft_on_chosen" in self.recipe.arms:
            self.control(name, dpo, start)
        inputs = {"model": start, "pairs": Upstream(pair, "pairs")}
        if self.recipe.reference == "first" and first != start:
            inputs["reference"] = first
        self.add(f"dpo.{name}", "dpo", "preference optimisation", dpo, inputs)
        self.policy = Upstream(f"dpo.{name}", "model")

    def control(self, name: str, dpo: DpoSettings, start: Ref) -> None:
        """Adds the arm that tells what the chosen answers alone do, without the rejected ones."""
        settings = self.recipe.control or _control_of(dpo)
        inputs = {"model": start, "chosen": Upstream(f"pair.{name}", "chosen")}
        control = f"sft.chosen.{name}"
        self.add(control, "sft", "the control of dpo: the chosen answers alone", settings, inputs)
        self.evaluate(_name_of(Upstream(control)), Upstream(control, "model"))


def _problems(benchmark: str) -> External:
    """Returns the data of a known benchmark, wherever it lies on this machine."""
    sha = partial(benchmark_sha, benchmark)
    return External(f"the data of {benchmark}", Path("$ALIGN_DATA") / SOURCES[benchmark].file, sha)


def _chosen(checkpoint: str, names: Sequence[str] | None) -> bool:
    """Says whether a checkpoint is among those named, by itself or with its round; None: all."""
    name, _, turn = checkpoint.partition(".")
    return names is None or name in names or f"{name}.{turn or 'r1'}" in names


def _name_of(policy: Ref) -> str:
    return checkpoint_name(policy.instance) if isinstance(policy, Upstream) else "start"


def _control_of(dpo: DpoSettings) -> SftSettings:
    """Returns settings of a supervised stage that takes the same steps on the same answers."""
    shared = (
        *("epochs", "learning_rate", "warmup", "accumulate", "max_length"),
        *("report_to", "lora", "dtype", "save_steps"),
    )
    same = {name: getattr(dpo, name) for name in shared}
    return SftSettings(batch_rows=dpo.batch_pairs, **same)


def compile_recipe(recipe: Recipe, base: Path) -> list[Instance]:
    """Returns a recipe's stage instances in the order in which they run.

    Raises:
        RecipeError: Sections that do not fit together.
        CheckpointError: The start checkpoint is not to be had.
    """
    sft = recipe.sft
    adds = recipe.fim is not None and recipe.fim.add_tokens
    again = recipe.dpo is not None and (recipe.eval is not None or recipe.rounds > 1 or adds)
    trains = bool(sft.coarse or sft.fine or sft.mixed) or again
    judge = recipe.judge
    if recipe.serving.endpoint and judge and judge.model and not judge.endpoint:
        raise RecipeError(
            f"serving.endpoint = {recipe.serving.endpoint} serves one model, which is not the "
            f"judge {judge.model}: name that one's server by judge.endpoint"
        )
    if recipe.serving.endpoint and trains:
        raise RecipeError(
            f"serving.endpoint = {recipe.serving.endpoint} serves one model, but every checkpoint "
            "of this recipe has to be: leave the key out; a judge elsewhere is judge.endpoint"
        )
    plan = _Compiler(recipe, base)
    if recipe.make:
        plan.make(recipe.make)
    plan.data()
    plan.evaluate("start", plan.start)
    if sft.coarse:
        plan.sft("coarse", sft.coarse, "broad supervised stage")
    if sft.fine or (sft.mixed and "fine" in sft.mixed.mix):
        plan.sample("fine", recipe.sample.fine)
        if sft.coarse:
            plan.evaluate("coarse", plan.policy)
        plan.verify("fine")
        plan.select()
    elif sft.coarse:
        plan.evaluate("coarse", plan.policy)
    if sft.fine:
        plan.sft("fine", sft.fine, "on answers chosen by rejection sampling")
        plan.evaluate("fine", plan.policy)
    if recipe.fim:
        plan.fim(recipe.fim)
    if sft.mixed:
        plan.sft("mixed", sft.mixed, "supervised rows and a share of infilling")
        if recipe.dpo is None:
            plan.evaluate("mixed", plan.policy)
    plan.rounds()
    if recipe.export:
        inputs: dict[str, Ref] = {"model": plan.policy}
        if plan.has(last := f"pair.r{recipe.rounds}"):
            inputs["pairs"] = Upstream(last, "pairs")
        plan.add("export", "export", "model folder, cards, reload check", recipe.export, inputs)
    if recipe.report:
        everything: dict[str, Ref] = {i.id: Upstream(i.id) for i in plan.instances}
        plan.add("report", "report", "report.html and a table", recipe.report, everything)
    return plan.instances
