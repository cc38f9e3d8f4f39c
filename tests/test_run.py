"""Walking a run: what is done stays done, what changed is done again, nothing is lost."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import align.run
from align.errors import ArtifactError, RecipeError
from align.manifest import path_sha, read_manifest
from align.pipeline import External, Instance, Upstream
from align.recipe import Recipe, load_recipe
from align.run import Run
from align.settings import SelectSettings, Settings
from align.stage import Context, Output, Summary

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])


class World:
    """Three toy stages `first -> second -> third` over one input file, and what was called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.source = folder / "source.txt"
        self.source.write_text("a b c", encoding="utf-8")
        self.calls: list[str] = []
        self.settings: dict[str, Settings] = {
            name: SelectSettings() for name in ("first", "second", "third")
        }
        self.fail_in = ""
        self.named = ""
        monkeypatch.setattr(align.run, "compile_recipe", lambda recipe, base: self.instances())
        monkeypatch.setattr(align.run, "stage_function", self.stage)

    def instances(self) -> list[Instance]:
        source = External("data.rows[0]", self.source, lambda: path_sha(self.source), self.named)
        return [
            Instance("first", "first", "", self.settings["first"], {"source": source}),
            Instance(
                "second", "sft", "", self.settings["second"], {"rows": Upstream("first", "t")}
            ),
            Instance(
                "third", "third", "", self.settings["third"], {"rows": Upstream("second", "t")}
            ),
        ]

    def stage(self, name: str) -> Callable[..., Summary]:
        def run(
            settings: SelectSettings, inputs: Mapping[str, Path], out: Output, context: Context
        ) -> Summary:
            self.calls.append(out.identity.instance)
            if name == "sft":
                (out.path / "model").mkdir(exist_ok=True)
            if name == "third":
                (out.path / "report.html").write_text(str(settings.per_task), encoding="utf-8")
            with out.table("t", SCHEMA, "id") as table:
                for word in self.source.read_text(encoding="utf-8").split():
                    if word not in table.done:
                        table.add({"id": word, "text": f"{name} {min(settings.per_task, 2)}"})
                    if self.fail_in == out.identity.instance:
                        raise ArtifactError("the disk is full")
            return Summary(table.content_sha(), {"rows": table.rows})

        return run

    def run(self, **recipe: Any) -> Run:
        values = {"name": "toy", "model": "a/b", "data": {}, **recipe}
        return Run(Recipe.model_validate(values), self.folder, self.folder / "runs" / "toy")

    def walk(self, **options: Any) -> list[str]:
        """Walks and returns the stages that were called."""
        self.calls.clear()
        self.run().walk(**options)
        return list(self.calls)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_a_done_run_is_not_done_again(world: World) -> None:
    assert world.walk() == ["first", "second", "third"]
    assert world.walk() == []
    assert [step.state for step in world.run().plan()] == ["done"] * 3


def test_a_failed_run_goes_on_where_it_stopped(world: World) -> None:
    world.fail_in = "second"
    with pytest.raises(ArtifactError):
        world.walk()
    assert [step.state for step in world.run().plan()] == ["done", "resume", "run"]
    world.fail_in = ""
    assert world.walk() == ["second", "third"]
    manifest = read_manifest(world.folder / "runs/toy/second")
    assert manifest is not None
    assert manifest["counts"] == {"rows": 3}


def test_a_changed_setting_reruns_what_depends_on_it_and_keeps_the_old(world: World) -> None:
    world.walk()
    world.settings["second"] = SelectSettings(per_task=2)
    assert [step.state for step in world.run().plan()] == ["done", "run", "run"]
    assert world.walk() == ["second", "third"]
    kept = sorted(path.name for path in (world.folder / "runs/toy/superseded").iterdir())
    assert [name.rsplit("-", 1)[0] for name in kept] == ["second", "third"]


def test_a_setting_put_back_takes_the_old_result_back(world: World) -> None:
    world.walk()
    world.settings["second"] = SelectSettings(per_task=2)
    world.walk()
    world.settings["second"] = SelectSettings()
    assert world.walk() == []


def test_the_page_in_the_run_s_folder_is_that_of_the_present_settings(world: World) -> None:
    world.walk()
    page = world.run().folder / "report.html"
    world.settings["third"] = SelectSettings(per_task=2)
    world.walk()
    assert page.read_text() == "2"
    world.settings["third"] = SelectSettings()
    assert world.walk() == []
    assert page.read_text() == "1"
    page.unlink()
    world.walk()
    assert page.read_text() == "1"


def test_a_changed_input_file_is_refused_by_name(world: World) -> None:
    world.walk()
    world.source.write_text("a b c d", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"data\.rows\[0\] .*source\.txt.* changed"):
        world.walk()
    with pytest.raises(ArtifactError, match="changed"):
        world.run().plan()


def test_an_input_that_a_run_of_an_earlier_version_lacks_did_not_change(world: World) -> None:
    world.walk()
    path = world.folder / "runs/toy/first/identity.json"
    identity = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(identity | {"inputs": {}}), encoding="utf-8")
    assert [step.state for step in world.run().plan()] == ["run", "run", "run"]
    assert world.walk() == ["first"]


def test_an_input_that_the_recipe_names_anew_is_a_changed_recipe(world: World) -> None:
    world.named = "org/one"
    world.walk()
    world.named = "org/two"
    assert world.walk() == [], "the same content by another name"
    world.source.write_text("a b c d", encoding="utf-8")
    with pytest.raises(ArtifactError, match="changed"):
        world.walk()  # it is what the second name stood for, too
    world.named = "org/three"
    assert [step.state for step in world.run().plan()] == ["run", "run", "run"]
    assert world.walk() == ["first", "second", "third"]
    kept = sorted(path.name for path in (world.folder / "runs/toy/superseded").iterdir())
    assert [name.rsplit("-", 1)[0] for name in kept] == ["first", "second", "third"]


def test_equal_content_from_changed_settings_stops_the_rerun(world: World) -> None:
    world.settings["second"] = SelectSettings(per_task=2)
    world.walk()
    world.settings["second"] = SelectSettings(per_task=5)
    assert world.walk() == ["second"], "it wrote the rows that the third was made from"
    world.settings["second"] = SelectSettings(per_task=1)
    assert world.walk() == ["second", "third"]


def test_from_and_until_cut_the_walk(world: World) -> None:
    assert world.walk(last="first") == ["first"]
    assert world.walk(first="second", last="second") == ["second"]
    assert world.walk() == ["third"]


def test_from_behind_until_is_refused(world: World) -> None:
    with pytest.raises(RecipeError, match="--from third comes behind --until first"):
        world.run().walk(first="third", last="first")


def test_from_needs_what_comes_before(world: World) -> None:
    with pytest.raises(RecipeError, match="--from: first comes before it and is not done"):
        world.walk(first="second")
    with pytest.raises(RecipeError, match="--until nothing: no such stage"):
        world.walk(last="nothing")


def test_a_second_run_in_the_same_folder_is_refused(world: World) -> None:
    folder = world.folder / "runs" / "toy"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        lock.write("4242")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ArtifactError, match="process 4242"):
            world.walk()
    assert world.walk() == ["first", "second", "third"]
    assert (folder / ".lock").read_text() == str(os.getpid())


def test_pruned_weights_are_made_again_when_they_are_needed(world: World) -> None:
    world.walk()
    model = world.folder / "runs/toy/second/model"
    model.rmdir()
    assert world.walk() == []  # nothing that is left to do needs them
    instances = world.instances()
    instances[2] = Instance(
        "third", "third", "", SelectSettings(per_task=9), {"rows": Upstream("second", "model")}
    )
    world.instances = lambda: instances  # type: ignore[method-assign]
    assert [step.state for step in world.run().plan()] == ["done", "run", "run"]
    assert world.walk() == ["second", "third"]
    assert model.is_dir()


@pytest.mark.parametrize(("keep", "left"), [("all", 3), ("last", 1), (2, 2)])
def test_merged_weights_go_as_soon_as_nothing_needs_them(
    world: World, monkeypatch: pytest.MonkeyPatch, keep: Any, left: int
) -> None:
    """`a -> b -> c`, each trained from the one before; what reads more than weights holds none."""
    seen: list[int] = []
    folder = world.folder / "runs" / "toy"

    def instances() -> list[Instance]:
        source = External("data.rows[0]", world.source, lambda: path_sha(world.source))
        found = [Instance("a", "sft", "", SelectSettings(), {"rows": source})]
        for before, name in (("a", "b"), ("b", "c")):
            inputs = {"model": Upstream(before, "model")}
            found.append(Instance(name, "sft", "", SelectSettings(), inputs))
        everything = {i.id: Upstream(i.id) for i in found}
        return [*found, Instance("report", "report", "", SelectSettings(), everything)]

    world.instances = instances  # type: ignore[method-assign]
    stage = world.stage

    def counting(name: str) -> Callable[..., Summary]:
        seen.append(len(list(folder.glob("*/model"))))
        return stage(name)

    monkeypatch.setattr(align.run, "stage_function", counting)
    world.run(keep=keep).walk()
    assert len(list(folder.glob("*/model"))) == left
    assert (folder / "c" / "model").is_dir()
    assert seen == {"all": [0, 1, 2, 3], "last": [0, 1, 1, 1], 2: [0, 1, 2, 2]}[keep]
    assert not list(folder.glob("*/.model.pruned"))
    world.calls.clear()
    world.run(keep=keep).walk()
    assert world.calls == []


def test_weights_that_were_pruned_before_they_were_set_aside_are_made_again(
    world: World,
) -> None:
    """`a -> b -> c`: b is changed and put back, and then c needs the weights of the first b."""

    def instances() -> list[Instance]:
        source = External("data.rows[0]", world.source, lambda: path_sha(world.source))
        made = [("a", "first", source)]
        made += [("b", "second", Upstream("a", "model")), ("c", "third", Upstream("b", "model"))]
        return [
            Instance(name, "sft", "", world.settings[key], {"model": ref})
            for name, key, ref in made
        ]

    world.instances = instances  # type: ignore[method-assign]

    def walk(second: int, third: int) -> list[str]:
        world.settings |= {
            "second": SelectSettings(per_task=second),
            "third": SelectSettings(per_task=third),
        }
        world.calls.clear()
        world.run(keep="last").walk()
        folder = world.folder / "runs" / "toy"
        assert (folder / "c" / "model").is_dir()
        return list(world.calls)

    assert walk(1, 1) == ["a", "b", "c"]
    assert walk(2, 1) == ["a", "b", "c"], "b needs the weights of a again"
    assert walk(1, 2) == ["a", "b", "c"], "and c those of the first b, which needs a's"
    assert walk(1, 2) == []


def test_weights_stay_while_a_stage_of_old_settings_waits_to_be_done_again(
    world: World,
) -> None:
    """`a -> b` and a reader of a's weights behind b, as evaluations are: all are done again."""

    def instances() -> list[Instance]:
        source = External("data.rows[0]", world.source, lambda: path_sha(world.source))
        weights = {"model": Upstream("a", "model")}
        return [
            Instance("a", "sft", "", world.settings["first"], {"rows": source}),
            Instance("b", "sft", "", SelectSettings(), weights),
            Instance("reader", "reader", "", SelectSettings(), weights),
        ]

    world.instances = instances  # type: ignore[method-assign]
    stage = world.stage

    def looking(name: str) -> Callable[..., Summary]:
        run = stage(name)

        def checked(
            settings: Any, inputs: Mapping[str, Path], out: Output, context: Context
        ) -> Summary:
            assert all(path.exists() for path in inputs.values()), inputs
            return run(settings, inputs, out, context)

        return checked

    world.stage = looking  # type: ignore[method-assign]
    align.run.stage_function = looking  # undone by the fixture's monkeypatch
    world.run(keep="last").walk()
    world.settings["first"] = SelectSettings(per_task=7)
    world.run(keep="last").walk()
    assert world.calls == ["a", "b", "reader"] * 2
    assert not (world.folder / "runs/toy/a/model").exists()


def test_from_asks_that_what_comes_before_is_done_not_only_begun(world: World) -> None:
    world.fail_in = "second"
    with pytest.raises(ArtifactError):
        world.walk()
    world.fail_in = ""
    with pytest.raises(RecipeError, match="second comes before it and is not done"):
        world.walk(first="third")


def test_the_log_says_what_happened(world: World) -> None:
    world.walk()
    lines = (world.folder / "runs/toy/log.jsonl").read_text(encoding="utf-8").splitlines()
    events = [(entry["stage"], entry["event"]) for entry in map(json.loads, lines)]
    assert events == [(name, event) for name in world.settings for event in ("begin", "done")]


def test_throughput_settings_change_no_identity(world: World) -> None:
    recipe = load_recipe_text(world.folder, "sample: {round: {concurrency: 3}}")
    other = load_recipe_text(world.folder, "sample: {round: {concurrency: 9}}")
    run = world.run()
    first = Instance("x", "sampling", "", recipe.sample.round, {})
    second = Instance("x", "sampling", "", other.sample.round, {})
    assert run.config_sha(first) == run.config_sha(second)


def load_recipe_text(folder: Path, text: str) -> Recipe:
    path = folder / "r.yaml"
    path.write_text(f"name: x\nmodel: a/b\ndata: {{}}\n{text}\n", encoding="utf-8")
    return load_recipe(path)
