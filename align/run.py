"""Compiles a recipe to stage instances and walks them; resume, locks, pruning."""

from __future__ import annotations

import ctypes
import gc
import importlib
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.artifacts import Identity, canonical_json, sha256_text, write_atomic
from align.context import RunContext, console
from align.errors import ArtifactError, RecipeError
from align.locks import locked
from align.manifest import (
    REPORT,
    begin,
    finish,
    input_names,
    read_identity,
    read_manifest,
    set_aside,
)
from align.pipeline import External, Instance, Upstream, compile_recipe
from align.processes import refuse_several
from align.recipe import Recipe
from align.stage import Output, StageFunction

#: Settings that change how a stage gets there, and nothing of what it writes.
PASSING_KEYS = frozenset({"concurrency", "workers", "save_steps", "budget_tokens"})


@dataclass(frozen=True)
class Step:
    """What is to be done about one instance, and why.

    Attributes:
        state: `done`, `resume` (begun, same identity), or `run`.
        reason: Why it runs, in words; empty when done.
        identity: None while an input is not known yet.
    """

    instance: Instance
    state: str
    reason: str
    identity: Identity | None


@dataclass
class Run:
    """One recipe in one folder.

    Args:
        recipe: The recipe.
        base: Folder of the recipe file; relative tables are looked up there too.
        folder: The run's folder, `runs/<name>`.
    """

    recipe: Recipe
    base: Path
    folder: Path
    instances: list[Instance] = field(init=False)
    _external: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.instances = compile_recipe(self.recipe, self.base)

    def path(self, instance_id: str) -> Path:
        """Returns the folder of an instance."""
        return self.folder / instance_id

    def config_sha(self, instance: Instance) -> str:
        """Returns the hash of all settings that can change what the instance writes."""
        settings = instance.settings.model_dump(mode="json", exclude=set(PASSING_KEYS))
        config = {"stage": instance.stage, "settings": settings, "seed": self.recipe.seed}
        return sha256_text(canonical_json({**config, **instance.extra}))

    def inputs(self, instance: Instance) -> dict[str, Path]:
        """Returns the paths of an instance's inputs by name."""
        return {
            name: ref.path if isinstance(ref, External) else self.path(ref.instance) / ref.part
            for name, ref in instance.inputs.items()
        }

    def identity(self, instance: Instance) -> Identity | None:
        """Returns what the instance is made from, or None while an input is not done."""
        hashes: dict[str, str] = {}
        for name, ref in instance.inputs.items():
            if isinstance(ref, External):
                if ref.key not in self._external:
                    self._external[ref.key] = ref.sha()
                hashes[name] = self._external[ref.key]
            else:
                manifest = read_manifest(self.path(ref.instance))
                if manifest is None:
                    return None
                hashes[name] = manifest["content_sha"]
        return Identity(instance.id, self.config_sha(instance), hashes)

    def plan(self) -> list[Step]:
        """Returns what would be done about each instance, in order.

        Raises:
            ArtifactError: An input file changed under an unchanged recipe.
        """
        steps: dict[str, Step] = {}
        for instance in self.instances:
            steps[instance.id] = self._step(instance, steps)
        # A checkpoint that was pruned is made again when a stage that runs needs its weights.
        for instance in reversed(self.instances):
            if steps[instance.id].state == "done":
                continue
            for name, ref in instance.inputs.items():
                if isinstance(ref, External) or self.inputs(instance)[name].exists():
                    continue
                if steps[ref.instance].state == "done":
                    old = steps[ref.instance]
                    reason = f"its weights were pruned and {instance.id} needs them"
                    steps[ref.instance] = Step(old.instance, "run", reason, old.identity)
        return list(steps.values())

    def _step(self, instance: Instance, before: Mapping[str, Step]) -> Step:
        waits = [
            ref.instance
            for ref in instance.inputs.values()
            if not isinstance(ref, External) and before[ref.instance].state != "done"
        ]
        present = read_identity(self.path(instance.id))
        identity = None if waits else self.identity(instance)
        if identity is None:
            more = f" and {len(waits) - 3} more" if len(waits) > 3 else ""
            return Step(instance, "run", f"waits for {', '.join(waits[:3])}{more}", None)
        if present == identity:
            done = read_manifest(self.path(instance.id)) is not None
            state, reason = ("done", "") if done else ("resume", "begun, goes on")
            return Step(instance, state, reason, identity)
        if present is None:
            return Step(instance, "run", "new", identity)
        self._refuse_changed_files(instance, present, identity)
        why = "settings changed" if present.config_sha != identity.config_sha else "inputs changed"
        return Step(instance, "run", f"{why}; the old one is kept aside", identity)

    def _refuse_changed_files(
        self, instance: Instance, present: Identity, wanted: Identity
    ) -> None:
        if present.config_sha != wanted.config_sha:
            return
        before = input_names(self.path(instance.id))
        for name, ref in instance.inputs.items():
            if not isinstance(ref, External) or before.get(name, ref.named) != ref.named:
                continue  # another one by another name is a changed recipe
            if present.inputs.get(name, wanted.inputs[name]) != wanted.inputs[name]:
                raise ArtifactError(
                    f"{ref.key} ({ref.path}) changed since {self.path(instance.id)} was made from "
                    "it, but the recipe did not: put it back as it was, or give the run another "
                    "name (--set name=...)"
                )

    def walk(self, *, first: str | None = None, last: str | None = None) -> None:
        """Does all that is not done, in order; a killed walk goes on where it stopped.

        Args:
            first: Begin at this instance; those before it must be done.
            last: Stop after this instance.

        Raises:
            AlignError: A stage can't be done; what was done before is kept.
        """
        refuse_several("a run")
        chosen = self._cut(first, last)
        another = "give this run another name (--set name=...)"
        with locked(self.folder, another), self._context() as context:
            for instance in self.instances:
                if instance.id in chosen:
                    self._do(instance, context)
                    self._prune()
                    self._show_report(instance)
                elif (
                    first
                    and instance.id not in chosen
                    and not chosen.intersection(self._earlier(instance))
                ):
                    self._require_done(instance)

    def _earlier(self, instance: Instance) -> set[str]:
        ids = [other.id for other in self.instances]
        return set(ids[: ids.index(instance.id)])

    def _require_done(self, instance: Instance) -> None:
        identity = self.identity(instance)
        folder = self.path(instance.id)
        if identity is None or read_identity(folder) != identity or read_manifest(folder) is None:
            raise RecipeError(
                f"--from: {instance.id} comes before it and is not done; start earlier"
            )

    def _cut(self, first: str | None, last: str | None) -> set[str]:
        ids = [instance.id for instance in self.instances]
        for option, value in (("--from", first), ("--until", last)):
            if value is not None and value not in ids:
                raise RecipeError(
                    f"{option} {value}: no such stage; this recipe has {', '.join(ids)}"
                )
        start = ids.index(first) if first else 0
        end = ids.index(last) + 1 if last else len(ids)
        if start >= end:
            raise RecipeError(f"--from {first} comes behind --until {last}: no stage is between")
        return set(ids[start:end])

    def _context(self) -> RunContext:
        recipe = self.recipe
        return RunContext(
            self.folder, seed=recipe.seed, sandbox=recipe.sandbox, serving=recipe.serving
        )

    def _do(self, instance: Instance, context: RunContext) -> None:
        folder = self.path(instance.id)
        identity = self.identity(instance)
        if identity is None:
            raise RecipeError(f"{instance.id} can't run: an input of it is not done")
        present = read_identity(folder)
        if present is not None and present != identity:
            self._refuse_changed_files(instance, present, identity)
        set_aside(folder, self.folder / "superseded", identity)
        forced = any(s.instance is instance and "pruned" in s.reason for s in self.plan())
        outside = {k: ref for k, ref in instance.inputs.items() if isinstance(ref, External)}
        names = {name: ref.named for name, ref in outside.items()}
        if read_identity(folder) == identity and read_manifest(folder) and not forced:
            begin(folder, identity, names)  # the same by another name
            return
        if forced:
            (folder / "manifest.json").unlink(missing_ok=True)
        context.stage = instance.id
        console.print(f"[bold]{instance.id}[/] [dim]{instance.title}[/]")
        context.log("begin", inputs=dict(identity.inputs))
        started = time.monotonic()
        try:
            begin(folder, identity, names)
            output = Output(
                folder, identity, self.recipe.shards.rows, float(self.recipe.shards.seconds)
            )
            summary = stage_function(instance.stage)(
                instance.settings, self.inputs(instance), output, context
            )
        except BaseException as error:
            with suppress(OSError):  # a full disk, for one, which the error itself tells of
                context.log("failed", error=f"{type(error).__name__}: {error}")
            raise
        seconds = time.monotonic() - started
        finish(
            folder,
            identity,
            summary,
            settings=instance.settings.model_dump(mode="json"),
            seed=self.recipe.seed,
            seconds=seconds,
        )
        _give_memory_back()
        context.log("done", seconds=round(seconds, 3), counts=dict(summary.counts))
        counts = ", ".join(f"{key} {value}" for key, value in summary.counts.items())
        console.print(f"  {seconds:.1f} s  {counts}", style="dim")

    def _show_report(self, instance: Instance) -> None:
        """Puts the report's page into the run's folder: also one that was put back, or deleted."""
        page, shown = self.path(instance.id) / REPORT, self.folder / REPORT
        if page.exists() and not (shown.exists() and shown.read_bytes() == page.read_bytes()):
            write_atomic(shown, page.read_bytes())

    def _prune(self) -> None:
        """Deletes the merged weights of earlier training stages, as `keep` says."""
        keep = self.recipe.keep
        if keep == "all":
            return
        # A manifest may be one of other settings, whose stage this walk has yet to do again.
        done = {step.instance.id for step in self.plan() if step.state == "done"}
        trained = [i for i in self.instances if i.trains and i.id in done]
        for instance in trained[: -(1 if keep == "last" else keep)]:
            weights = Upstream(instance.id, "model")
            readers = [i for i in self.instances if weights in i.inputs.values()]
            folder = self.path(instance.id)
            if all(reader.id in done for reader in readers):
                shutil.rmtree(folder / ".model.pruned", ignore_errors=True)
                with suppress(FileNotFoundError):
                    # At once, so that a kill leaves no half of a model under its name.
                    (folder / "model").rename(folder / ".model.pruned")
                shutil.rmtree(folder / ".model.pruned", ignore_errors=True)


def _give_memory_back() -> None:
    """Returns what a training stage has freed to the system: a server needs it next.

    The C library would keep it, gigabytes of it, as the tensors were small enough for its heap.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)


def stage_function(name: str) -> StageFunction[Any]:
    """Returns a stage's entry; its module is imported only now."""
    function: StageFunction[Any] = importlib.import_module(f"align.{name}").run
    return function
