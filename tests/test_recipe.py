"""Recipes: strict, with errors that name the key; every shipped one is checked."""

import importlib.resources
from pathlib import Path
from typing import Any

import pytest

from align.benchmark_files import SOURCES
from align.errors import RecipeError
from align.pipeline import External, Instance, Upstream, compile_recipe
from align.recipe import (
    Recipe,
    apply_override,
    check_files,
    copy_recipe,
    find_recipe,
    load_recipe,
    shipped_recipes,
)
from align.settings import SandboxSettings
from tests.tiny import build_tiny_model


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_is_valid(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "gpteacher_codegen/codegen-instruct.json"
    for file in (*(source.file for source in SOURCES.values()), rows):  # a user has them
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.setenv("ALIGN_DATA", str(tmp_path))
    path = shipped_recipes()[name]
    check_files(load_recipe(path), path.parent)
    assert path.read_text(encoding="utf-8").startswith(f"# align run recipes/{name}.yaml\n")


def test_a_mistyped_override_names_the_nearest_key() -> None:
    with pytest.raises(RecipeError, match=r"unknown key sft\.coarse\.lerning_rate.*learning_rate"):
        load_recipe(find_recipe("demo"), ["sft.coarse.lerning_rate=1"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("smaple.round.n=2", r"unknown key smaple; did you mean sample\?"),
        ("sample.round.n=many", r"sample\.round\.n = 'many'"),
        ("sample.round.n=0", r"sample\.round\.n = 0"),
        ("seed=true", r"seed = True"),
        ("data.held_out=2", r"data\.held_out = 2"),
        ("sandbox.engine=chroot", r"sandbox\.engine = 'chroot'"),
        ("name=../outside", r"name = '\.\./outside'"),
        ("name", r"write it as key\.sub_key=value"),
        ("seed.deeper=1", r"seed is no section"),
    ],
)
def test_a_wrong_override_is_explained(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(find_recipe("demo"), [override])


def test_every_fault_of_a_recipe_is_listed(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\nmodle: a/b\ndata: {rows: one.jsonl}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    text = str(caught.value)
    assert "model is missing" in text
    assert "unknown key modle; did you mean model?" in text
    assert "data.rows" in text
    assert caught.value.exit_code == 2


def test_a_file_that_is_missing_is_named_with_its_key(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\nmodel: a/b\ndata: {tasks: [nothing/here.jsonl]}\n")
    with pytest.raises(RecipeError, match=r"data\.tasks\[0\] = nothing/here\.jsonl: no such file"):
        check_files(load_recipe(path), tmp_path)


def test_a_model_may_be_a_folder_here_at_home_or_on_the_shelf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ALIGN_MODELS", str(tmp_path / "shelf"))
    (tmp_path / "home" / "a" / "b").mkdir(parents=True)
    (tmp_path / "shelf" / "tiny").mkdir(parents=True)
    for model in ("~/a/b", "tiny", "owner/name"):
        path = write(tmp_path, f"name: x\nmodel: {model}\ndata: {{}}\n")
        check_files(load_recipe(path), tmp_path)
    for model in ("~/a/c", "none", "/a/b/c"):
        path = write(tmp_path, f"name: x\nmodel: {model}\ndata: {{}}\n")
        with pytest.raises(RecipeError, match="no such folder, and no Hub id"):
            check_files(load_recipe(path), tmp_path)


def test_a_benchmark_that_is_no_table_and_not_known_is_named_with_its_key(tmp_path: Path) -> None:
    text = "name: x\nmodel: a/b\ndata: {decontaminate: [humaneval, ./mbpp.jsonl]}\n"
    path = write(tmp_path, text)
    with pytest.raises(RecipeError, match=r"data\.decontaminate\[1\] = \./mbpp\.jsonl: no such"):
        check_files(load_recipe(path), tmp_path)
    (tmp_path / "mbpp.jsonl").write_text("{}")
    check_files(load_recipe(path), tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eval: {benchmarks: {humanevl: 3}}", r"eval\.benchmarks\.humanevl .* mean humaneval\?"),
        ("eval: {checkpoints: [mixed]}", r"checkpoints\[0\] = mixed: .* it has start"),
        ("eval: {repeated: {checkpoints: [dpo]}}", r"repeated\.checkpoints\[0\] = dpo: .* start"),
        ("dpo: {}\neval: {checkpoints: [dpo.r2]}", r"checkpoints\[0\] = dpo\.r2: .* start, dpo"),
        ("eval: {repeated: {benchmarks: [mbpp]}}", "names mbpp, which benchmarks does not"),
        ("eval: {benchmarks: {humaneval_infilling_single_line: 3}}", "is not there: put"),
        ("fim: {decontaminate: [./none.jsonl]}", r"fim\.decontaminate\[0\] = \./none\.jsonl: no"),
    ],
)
def test_what_a_stage_would_stumble_over_is_found_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.delenv("ALIGN_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, f"name: x\nmodel: a/b\ndata: {{}}\n{text}\n")
    with pytest.raises(RecipeError, match=message):
        check_files(load_recipe(path), tmp_path)


def test_a_checkpoint_that_no_recipe_makes_is_a_wrong_value(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\nmodel: a/b\ndata: {}\neval: {checkpoints: [mixd]}\n")
    with pytest.raises(RecipeError, match=r"eval\.checkpoints\.0.*'mixd'"):
        load_recipe(path)


def test_one_endpoint_can_t_serve_what_a_recipe_trains(tmp_path: Path) -> None:
    text = "serving: {endpoint: http://127.0.0.1:9/v1}\nsft: {coarse: {}}"
    path = write(tmp_path, f"name: x\nmodel: a/b\ndata: {{}}\n{text}\n")
    with pytest.raises(RecipeError, match=r"serves one model, but every checkpoint"):
        compile_recipe(load_recipe(path), tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dpo: {}\nrounds: 2", "serves one model, but every checkpoint"),
        ("fim: {add_tokens: true}\ndpo: {}", "serves one model, but every checkpoint"),
        ("dpo: {}\njudge: {model: c/d}", "which is not the judge c/d"),
    ],
)
def test_one_endpoint_stands_for_no_later_policy_and_no_judge(
    tmp_path: Path, text: str, words: str
) -> None:
    head = "name: x\nmodel: a/b\ndata: {}\nserving: {endpoint: 'http://127.0.0.1:9/v1'}\n"
    path = write(tmp_path, f"{head}{text}\n")
    with pytest.raises(RecipeError, match=words):
        compile_recipe(load_recipe(path), tmp_path)


def test_a_copied_recipe_names_each_table_once_and_no_key(tmp_path: Path) -> None:
    for name in ("tasks.jsonl", "more_tasks.jsonl", "general.jsonl"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "data").mkdir()
    text = (
        "name: x\nmodel: a/b\nmake: {rows: [data]}\n"
        "data: {rows: [data], tasks: [tasks.jsonl, more_tasks.jsonl]}\n"
        "fim: {decontaminate: [tasks.jsonl]}\ndpo: {}\npair: {common: general.jsonl}\n"
    )
    copied = copy_recipe(write(tmp_path, text))
    (tmp_path / "elsewhere").mkdir()
    copy = load_recipe(write(tmp_path / "elsewhere", copied))
    assert [source.path for source in copy.data.rows] == [str(tmp_path / "data")]
    assert copy.make and [source.path for source in copy.make.rows] == [str(tmp_path / "data")]
    assert copy.data.tasks == [str(tmp_path / "tasks.jsonl"), str(tmp_path / "more_tasks.jsonl")]
    assert copy.fim and copy.fim.decontaminate == [str(tmp_path / "tasks.jsonl")]
    assert copy.pair.common == str(tmp_path / "general.jsonl")


def test_a_rubric_is_part_of_what_a_judge_is_made_from(tmp_path: Path) -> None:
    model = build_tiny_model(tmp_path / "tiny")
    (tmp_path / "tasks.jsonl").write_text("{}\n")
    rubric = tmp_path / "mine.yaml"
    shipped = Path(str(importlib.resources.files("judges") / "rubrics" / "code_quality.yaml"))
    text = (
        f"name: x\nmodel: {model}\ndata: {{tasks: [tasks.jsonl]}}\ndpo: {{}}\n"
        f"judge: {{rubric: {rubric}}}\n"
    )
    path = write(tmp_path, text)
    shas = []
    for change in ("", "\n# the same\n", None):
        content = shipped.read_text() + (change or "")
        if change is None:
            content = content.replace("code", "program")
        rubric.write_text(content)
        (judge,) = [
            i for i in compile_recipe(load_recipe(path), tmp_path) if i.id.startswith("judge.")
        ]
        shas.append(judge.extra["rubric_sha"])
    assert shas[0] == shas[1] != shas[2]
    with pytest.raises(RecipeError, match=r"judge\.rubric = no_such_rubric: "):
        compile_recipe(load_recipe(path, ["judge.rubric=no_such_rubric"]), tmp_path)


def test_the_image_that_the_environment_names_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SandboxSettings().image == "python"
    monkeypatch.setenv("ALIGN_SANDBOX_IMAGE", "python-data")
    assert SandboxSettings().image == "python-data"
    monkeypatch.setenv("ALIGN_SANDBOX_IMAGE", "alpine")
    with pytest.raises(ValueError, match="python-data"):
        SandboxSettings()


def compiled(folder: Path, text: str, *overrides: str) -> dict[str, Instance]:
    if not (folder / "tiny").exists():
        build_tiny_model(folder / "tiny")
        (folder / "tasks.jsonl").write_text("{}\n")
        (folder / "general.jsonl").write_text("{}\n")
    head = f"name: x\nmodel: {folder / 'tiny'}\ndata: {{tasks: [tasks.jsonl]}}\n"
    recipe = load_recipe(write(folder, head + text), overrides)
    return {each.id: each for each in compile_recipe(recipe, folder)}


def test_tasks_that_are_made_are_cleaned_beside_those_that_are_given(tmp_path: Path) -> None:
    text = "make: {rows: [general.jsonl]}\nsft: {fine: {}}\n"
    stages = compiled(tmp_path, text)
    assert list(stages)[:3] == ["make", "data", "sample.fine"]
    assert stages["data"].inputs["tasks.1"] == Upstream("make", "tasks")
    assert isinstance(stages["data"].inputs["tasks.0"], External)
    alone = compiled(tmp_path, text, "data.tasks=[]")
    assert alone["data"].inputs["tasks.0"] == Upstream("make", "tasks")
    recipe = load_recipe(tmp_path / "recipe.yaml", ["make.rows=[none.jsonl]"])
    with pytest.raises(RecipeError, match=r"make\.rows\[0\] = none\.jsonl: no such file"):
        check_files(recipe, tmp_path)


def test_each_round_starts_where_the_last_one_ended(tmp_path: Path) -> None:
    text = "dpo: {}\nrounds: 3\neval: {}\nexport: {}\n"
    stages = compiled(tmp_path, text)
    assert list(stages) == [
        *("data", "eval.start", "sample.r1", "verify.r1", "pair.r1", "dpo.r1"),
        *("sample.r2", "eval.dpo", "verify.r2", "pair.r2", "dpo.r2"),
        *("sample.r3", "eval.dpo.r2", "verify.r3", "pair.r3", "dpo.r3", "eval.dpo.r3"),
        *("export", "report"),
    ]
    for stage in ("sample", "dpo"):
        assert isinstance(stages[f"{stage}.r1"].inputs["model"], External)
        for number in (2, 3):
            start = stages[f"{stage}.r{number}"].inputs["model"]
            assert start == Upstream(f"dpo.r{number - 1}", "model")
    assert stages["pair.r3"].inputs["samples"] == Upstream("sample.r3", "samples")
    assert stages["export"].inputs["pairs"] == Upstream("pair.r3", "pairs")
    assert all("reference" not in stage.inputs for stage in stages.values())
    first = compiled(tmp_path, text, "reference=first")
    assert first["dpo.r3"].inputs["reference"] == first["dpo.r1"].inputs["model"]
    assert "reference" not in first["dpo.r1"].inputs
    only = compiled(tmp_path, text, "eval.checkpoints=[dpo]")
    assert [name for name in only if name.startswith("eval.")] == [
        "eval.dpo",
        "eval.dpo.r2",
        "eval.dpo.r3",
    ]
    for names, evaluated in (
        ("dpo.r1", ["eval.dpo"]),
        ("start,dpo.r3", ["eval.start", "eval.dpo.r3"]),
    ):
        some = compiled(tmp_path, text, f"eval.checkpoints=[{names}]")
        assert [name for name in some if name.startswith("eval.")] == evaluated


def test_evaluations_by_several_answers_stand_beside_and_change_no_other(tmp_path: Path) -> None:
    text = "dpo: {}\neval: {benchmarks: {humaneval: 8, mbpp_validation: null}, max_tokens: 99}\n"
    plain = compiled(tmp_path, text)
    repeated = compiled(
        tmp_path,
        text,
        "eval.repeated={n: 5, benchmarks: [humaneval], checkpoints: [dpo]}",
        "eval.checkpoints=[start, dpo]",
    )
    added = "eval.repeated.dpo"
    assert list(repeated) == [*list(plain)[:-1], added, "report"]
    for name, stage in plain.items():
        assert stage.settings == repeated[name].settings, name
    settings = repeated[added].settings.model_dump()
    assert settings == plain["eval.dpo"].settings.model_dump() | {
        "n": 5,
        "temperature": 0.2,
        "benchmarks": {"humaneval": 8},
    }
    assert repeated[added].inputs["model"] == repeated["eval.dpo"].inputs["model"]
    assert set(repeated[added].inputs) == {"model", "problems.humaneval"}


def test_one_more_round_changes_nothing_of_those_before(tmp_path: Path) -> None:
    text = "dpo: {}\neval: {}\narms: [sft_on_chosen, dpo]\n"
    one, two = compiled(tmp_path, text), compiled(tmp_path, text, "rounds=2")

    def plain(stage: Instance) -> tuple[Any, ...]:
        inputs = {k: v for k, v in stage.inputs.items() if isinstance(v, Upstream)}
        return stage.stage, stage.settings, inputs, stage.extra

    for name in one.keys() - {"report"}:
        assert plain(one[name]) == plain(two[name]), name


def test_a_control_trains_beside_dpo_from_the_same_start_on_the_same_answers(
    tmp_path: Path,
) -> None:
    text = "dpo: {learning_rate: 3.0e-5, batch_pairs: 3}\narms: [sft_on_chosen, dpo]\neval: {}\n"
    stages = compiled(tmp_path, text, "rounds=2")
    for turn in ("r1", "r2"):
        control, dpo = stages[f"sft.chosen.{turn}"], stages[f"dpo.{turn}"]
        assert control.stage == "sft"
        assert control.inputs["model"] == dpo.inputs["model"]
        assert control.inputs["chosen"] == Upstream(f"pair.{turn}", "chosen")
        assert dpo.inputs["pairs"] == Upstream(f"pair.{turn}", "pairs")
        settings = control.settings.model_dump()
        assert (settings["learning_rate"], settings["batch_rows"]) == (3e-5, 3)
    assert stages["eval.sft_on_chosen"].inputs["model"] == Upstream("sft.chosen.r1", "model")
    assert stages["eval.sft_on_chosen.r2"].inputs["model"] == Upstream("sft.chosen.r2", "model")
    assert stages["sample.r2"].inputs["model"] == Upstream("dpo.r1", "model")
    own = compiled(tmp_path, text, "control.learning_rate=1e-4")
    assert own["sft.chosen.r1"].settings.model_dump()["learning_rate"] == 1e-4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arms: [sft_on_chosen]", "arms must name dpo"),
        ("arms: [sft_on_chosen, dpo]\ndpo: {max_pairs: 3}", r"set pair\.max_pairs instead"),
        ("arms: [sft_on_chosen, dpo]\ndpo: {held_out: 0.1}", r"dpo\.held_out keeps pairs"),
        ("rounds: 0", "rounds = 0"),
        ("control: {}", "add sft_on_chosen to arms"),
        ("pair: {negatives: {nearest: 0, random: 0, worst: 0}}", "all shares are zero"),
        ("pair: {rules: [exec_strct]}", r"pair\.rules"),
    ],
)
def test_arms_and_rounds_that_mean_nothing_are_explained(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path, f"name: x\nmodel: a/b\ndata: {{}}\n{text}\n"))


def test_general_pairs_are_an_input_of_the_pair_stage(tmp_path: Path) -> None:
    text = "dpo: {}\npair: {common: general.jsonl}\n"
    common = compiled(tmp_path, text)["pair.r1"].inputs["common"]
    assert isinstance(common, External)
    assert common.path == tmp_path / "general.jsonl"
    path = write(tmp_path, "name: x\nmodel: a/b\ndata: {}\npair: {common: ./none.jsonl}\n")
    with pytest.raises(RecipeError, match=r"pair\.common = \./none\.jsonl: no such file"):
        check_files(load_recipe(path), tmp_path)


def test_what_is_measured_is_decontaminated_against(tmp_path: Path) -> None:
    build_tiny_model(tmp_path / "model")
    (tmp_path / "own.jsonl").write_text("{}")
    text = (
        f"name: x\nmodel: {tmp_path / 'model'}\n"
        "data: {decontaminate: [own.jsonl], rows: [own.jsonl]}\n"
        "eval: {benchmarks: {held_out: null, humaneval: 3, humaneval_infilling: 3}}\n"
    )
    data, *_ = compile_recipe(load_recipe(write(tmp_path, text)), tmp_path)
    assert data.settings.model_dump()["decontaminate"] == [
        "own.jsonl",
        "humaneval",
        "humaneval_infilling",
    ]
    assert list(data.inputs) == ["rows.0", "benchmark.own.jsonl", "problems.humaneval"]


def test_the_problems_of_a_benchmark_are_inputs_of_all_that_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGN_DATA", str(tmp_path))
    problems = tmp_path / "mbpp" / "mbpp_validation.jsonl"
    problems.parent.mkdir()
    repeated = "repeated: {benchmarks: [mbpp_validation]}"
    text = f"eval: {{benchmarks: {{held_out: 4, humaneval: 3, mbpp_validation: 4}}, {repeated}}}\n"
    hashes = []
    for each in ("one", "two"):
        problems.write_text(each, encoding="utf-8")
        stages = compiled(tmp_path, text)
        for stage in ("data", "eval.start", "eval.repeated.start"):
            outside = stages[stage].inputs["problems.mbpp_validation"]
            assert isinstance(outside, External)
            hashes.append(outside.sha())
    assert len(set(hashes[:3])) == len(set(hashes[3:])) == 1
    assert hashes[0] != hashes[3]
    assert "problems.humaneval" in stages["eval.start"].inputs
    assert "problems.humaneval" not in stages["eval.repeated.start"].inputs
    assert stages["eval.start"].inputs["held_out"] == Upstream("data", "held_out")
    problems.unlink()
    assert hashes[0] != outside.sha() == outside.sha(), "the Hub's, where the file is not there"


def test_no_yaml_and_no_mapping_are_explained(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="can't be read"):
        load_recipe(write(tmp_path, "a: [1"))
    with pytest.raises(RecipeError, match="mapping"):
        load_recipe(write(tmp_path, "- a\n"))


def test_an_exponent_without_a_dot_is_a_number(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\nmodel: a/b\ndata: {}\ndpo: {learning_rate: 1e-5}\n")
    recipe = load_recipe(path, ["dpo.beta=2e-1"])
    assert isinstance(recipe, Recipe)
    assert recipe.dpo is not None
    assert (recipe.dpo.learning_rate, recipe.dpo.beta) == (1e-5, 0.2)


def test_an_override_makes_the_sections_it_needs() -> None:
    content: dict[str, object] = {"dpo": None}
    apply_override(content, "dpo.beta=0.5")
    assert content == {"dpo": {"beta": 0.5}}


def test_an_unknown_recipe_suggests_a_shipped_one() -> None:
    with pytest.raises(RecipeError, match="did you mean demo"):
        find_recipe("dmeo")


def test_a_copied_recipe_finds_its_tables_from_anywhere(tmp_path: Path) -> None:
    copy = write(tmp_path, copy_recipe(find_recipe("demo")))
    check_files(load_recipe(copy), tmp_path)
