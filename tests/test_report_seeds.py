"""The report of several seeds: means over runs, and what changes problem by problem."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

import pytest
from typer.testing import CliRunner

from align.artifacts import write_json
from align.cli import app
from align.errors import InputError
from align.report.seeds import TOGETHER, SeedsView, collect_seeds
from align.report.seeds_page import write_seeds_page
from tests.report_run import PROBLEMS, SOLVED, make_evaluation, make_repeated, stage

CHECKPOINTS = ("start", "mixed", "sft_on_chosen", "dpo")


@pytest.fixture(autouse=True)
def _control(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOLVED, "sft_on_chosen", 23)


def make_run(folder: Path, seed: int, checkpoints: tuple[str, ...] = CHECKPOINTS) -> Path:
    """Writes a run with evaluations of HumanEval, MBPP validation and infilling."""
    for checkpoint in checkpoints:
        make_evaluation(folder, checkpoint, seed)
        path = folder / f"eval.{checkpoint}/result.json"
        benchmarks = json.loads(path.read_text())["benchmarks"]
        other = json.loads(json.dumps(benchmarks["humaneval"]).replace("HumanEval/", "mbpp/"))
        write_json(path, {"benchmarks": {**benchmarks, "mbpp_validation": other}})
    stage(folder, "pair.r1", counts={"pairs": 10 + seed}, seed=seed)
    stage(folder, "sample.r1", counts={"samples": 60}, seed=seed)
    made = {path.name: f"content-of-{path.name}" for path in folder.iterdir()}
    stage(folder, "report", settings={"title": "Test <data>"}, seed=seed, **made)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [make_run(tmp_path / f"seed-{seed}", seed) for seed in (9, 7, 8)]


def versus(view: SeedsView, benchmark: str, first: str, last: str) -> float:
    """Returns the change that one comparison found."""
    (found,) = (
        each
        for each in view.versus
        if (each.benchmark, each.first, each.last) == (benchmark, first, last)
    )
    return found.compared.difference


def test_scores_are_means_over_the_seeds(folders: list[Path]) -> None:
    view = collect_seeds(folders)
    assert [run.seed for run in view.runs] == [7, 8, 9]
    assert list(view.scores) == list(CHECKPOINTS)
    dpo = view.scores["dpo"]["humaneval"]
    expected = [(SOLVED["dpo"] + more) / PROBLEMS for more in (0, 1, 2)]
    assert list(dpo.by_run) == pytest.approx(expected)
    assert dpo.score == pytest.approx(mean(expected))
    assert dpo.low < dpo.score < dpo.high
    assert (dpo.problems, dpo.tokens, dpo.stop_rate) == (PROBLEMS, 130.0, pytest.approx(0.925))
    assert view.scores["dpo"]["humaneval_infilling"].boundaries["runs_on_rate"] == 0.6875
    assert not view.cautions


def test_changes_are_of_the_means_and_together_leaves_infilling_out(folders: list[Path]) -> None:
    view = collect_seeds(folders)
    gained = (SOLVED["dpo"] + 1 - SOLVED["start"]) / PROBLEMS
    assert versus(view, "humaneval", "start", "dpo") == pytest.approx(gained)
    assert versus(view, TOGETHER, "start", "dpo") == pytest.approx(gained)
    of_control = (SOLVED["dpo"] - SOLVED["sft_on_chosen"]) / PROBLEMS
    assert versus(view, TOGETHER, "sft_on_chosen", "dpo") == pytest.approx(of_control)
    compared = {(v.benchmark, v.first, v.last): v.compared for v in view.versus}
    assert compared[TOGETHER, "start", "dpo"].n == 2 * PROBLEMS
    narrow, wide = (
        (lambda ends: ends[1] - ends[0])(compared[name, "start", "dpo"].interval)
        for name in (TOGETHER, "humaneval")
    )
    assert narrow < wide, "more problems say more"


def test_the_page_and_the_terminal_show_the_same(folders: list[Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["report", *map(str, folders), "--out", str(tmp_path / "seeds.html")]
    )
    assert done.exit_code == 0, done.output
    page = (tmp_path / "seeds.html").read_text("utf-8")
    score = collect_seeds(folders).scores["dpo"]["humaneval"]
    shown = f"{100 * score.score:.1f}%"
    assert shown in page and shown in done.output
    for value in score.by_run:
        assert f"{100 * value:.1f}%" in page
        assert f"{100 * value:.1f}" in done.output
    assert "…" not in done.output, "the terminal cuts nothing"
    assert "sft_on_chosen to dpo" in done.output
    assert "Test &lt;data&gt;, 3 seeds" in page
    assert page.count("sft_on_chosen to dpo") == 1
    assert ">19<" in page, "the pairs of seed 9"


def test_only_what_every_run_has_is_shown_and_the_rest_is_said(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", 7),
        make_run(tmp_path / "b", 8, ("start", "mixed")),
    ]
    stage(tmp_path / "b", "sample.r1", settings={"n": 3}, seed=8)
    view = collect_seeds(runs)
    assert list(view.scores) == ["start", "mixed"]
    first, second = sorted(view.cautions)
    assert "a also evaluated dpo, sft_on_chosen" in second + first
    assert "a and b ran sample.r1 with different settings" in first + second
    page = write_seeds_page(view, tmp_path / "seeds.html").read_text("utf-8")
    assert page.count("Compare with care.") == 2


def test_what_is_no_set_of_seeds_is_refused(tmp_path: Path) -> None:
    one, same = make_run(tmp_path / "one", 7), make_run(tmp_path / "same", 7)
    with pytest.raises(InputError, match="one and same both have seed 7"):
        collect_seeds([one, same])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no stage of a run that is done"):
        collect_seeds([one, tmp_path / "empty"])
    other = make_run(tmp_path / "other", 8)
    path = other / "eval.dpo/result.json"
    result = json.loads(path.read_text())
    result["benchmarks"]["humaneval"]["settings"]["max_tokens"] = 99
    write_json(path, result)
    with pytest.raises(InputError, match="different max_tokens"):
        collect_seeds([one, other])
    with pytest.raises(InputError, match="no evaluation in common"):
        collect_seeds([one, make_run(tmp_path / "none", 9, ())])


def test_what_several_answers_measured_stands_beside(tmp_path: Path) -> None:
    for seed in (7, 8):
        folder = make_run(tmp_path / f"seed-{seed}", seed)
        for checkpoint in ("start", "dpo"):
            make_repeated(folder, checkpoint, seed)
    view = collect_seeds([tmp_path / "seed-7", tmp_path / "seed-8"])
    assert view.benchmarks[-1] == "humaneval@4"
    score = view.scores["dpo"]["humaneval@4"]
    assert (score.score, score.tokens, list(score.by_run)) == (0.5, 90.0, [0.5, 0.5])
    pooled = {v.benchmark: v.compared.n for v in view.versus if v.last == "dpo"}
    assert pooled[TOGETHER] == 2 * PROBLEMS, "no problem counts twice"
    assert pooled["humaneval@4"] == PROBLEMS
    assert "humaneval@4" not in view.scores["mixed"]
    page = write_seeds_page(view, tmp_path / "seeds.html").read_text("utf-8")
    assert "HumanEval, 4 answers a problem" in page
    assert page.count("not evaluated") == 2


def test_the_start_is_one_model_that_one_run_may_measure_for_all(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"seed-{seed}", seed) for seed in (7, 8)]
    for seed, run in zip((7, 8), runs, strict=True):
        make_repeated(run, "dpo", seed)
    make_repeated(runs[0], "start")
    view = collect_seeds(runs)
    assert [len(view.scores[name]["humaneval@4"].by_run) for name in ("start", "dpo")] == [1, 2]
    assert versus(view, "humaneval@4", "start", "dpo") == 0.0
    assert "humaneval@4" not in view.scores["mixed"]
    page = write_seeds_page(view, tmp_path / "seeds.html").read_text("utf-8")
    assert page.count("<small>50.0% (1 of 2 runs)</small>") == 1

    path = runs[0] / "eval.repeated.start/result.json"
    path.write_text(path.read_text().replace('"weights_sha": "start"', '"weights_sha": "other"'))
    assert "humaneval@4" not in collect_seeds(runs).scores["start"], "two models are not one"


def test_a_sign_test_on_shared_sources_says_so(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", 7), make_run(tmp_path / "b", 8)]
    for run in runs:
        for checkpoint in CHECKPOINTS:
            path = run / f"eval.{checkpoint}/result.json"
            text = path.read_text("utf-8").replace("mbpp_validation", "humaneval_plus")
            path.write_text(text.replace("humaneval:mbpp/", "humaneval_plus:HumanEval/"), "utf-8")
    found = collect_seeds(runs)
    together = next(v.compared for v in found.versus if v.benchmark == TOGETHER)
    won, lost = len(together.wins) // 2, len(together.losses) // 2
    assert together.of_sources == f"sources, {won} to {lost}"
    page = write_seeds_page(found, tmp_path / "seeds.html").read_text("utf-8")
    assert f"<small>sources, {won} to {lost}</small>" in page
