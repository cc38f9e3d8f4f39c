"""The report of a run: what it shows, and that nothing a model wrote can act in it."""

from __future__ import annotations

import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from align import rows as schemas
from align.artifacts import read_shards, write_json
from align.context import RunContext
from align.errors import ArtifactError, InputError
from align.manifest import begin
from align.report import run, write_report
from align.report.collect import collect
from align.report.evaluations import comparisons, control_comparisons
from align.report.stages import STAGES
from align.report.terminal import print_report
from align.report.words import cautions, finding
from align.settings import ReportSettings, SandboxSettings, ServingSettings
from align.stage import Output
from tests.report_run import (
    OUTCOMES,
    PROBLEMS,
    SOLVED,
    identity,
    make_evaluation,
    make_full_run,
    make_partial_run,
    make_repeated,
    stage,
    table,
    verdict,
)


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_full_run(tmp_path_factory.mktemp("runs") / "test-run")


@pytest.fixture(scope="session")
def full_page(full_run: Path) -> str:
    return write_report(full_run, full_run / "report.html").read_text("utf-8")


@pytest.fixture
def partial_run(tmp_path: Path) -> Path:
    return make_partial_run(tmp_path / "half")


class Page(HTMLParser):
    """Collects the tags, their attributes, and the visible text of a page."""

    VOID = frozenset({"meta", "br", "img", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_each_checkpoint_s_infilling_stands_with_its_boundaries(full_run: Path) -> None:
    page = Page(write_report(full_run, full_run / "report.html").read_text("utf-8"))
    words = [word.strip() for word in page.words if word.strip()]
    table = words[words.index("copies what follows") :]
    table = table[: table.index("Rows cut from source files")]
    assert [word for word in table if word in SOLVED] == list(SOLVED)
    for share in ("25.0%", "12.5%", "6.2%", "37.5%", "68.8%"):
        assert table.count(share) >= len(SOLVED), share
    assert table.count("(56.2% to 79.7%)") == len(SOLVED)
    result = words[: words.index("copies what follows")]
    assert "HumanEval infilling, own lines, as produced" in " ".join(result)


def test_what_several_answers_measured_is_a_benchmark_of_the_same_checkpoint(
    tmp_path: Path,
) -> None:
    for checkpoint in ("start", "dpo"):
        make_evaluation(tmp_path / "run", checkpoint)
        make_repeated(tmp_path / "run", checkpoint)
    view = collect(tmp_path / "run")
    assert [e.checkpoint for e in view.evaluations] == ["start", "dpo"]
    assert list(view.evaluations[1].benchmarks)[-1] == "humaneval@4"
    assert [s.id for s in view.stages] == [
        *("eval.start", "eval.repeated.start", "eval.dpo", "eval.repeated.dpo"),
    ]
    text = Page(write_report(tmp_path / "run", tmp_path / "report.html").read_text("utf-8")).text
    assert "HumanEval, 4 answers a problem, 40 problems: 50.0% (start), 50.0% (dpo)" in text


def test_the_numbers_on_the_page_are_those_of_the_artifacts(full_run: Path, full_page: str) -> None:
    text = Page(full_page).text
    for checkpoint in SOLVED:
        result = json.loads((full_run / f"eval.{checkpoint}/result.json").read_text())
        for plain in result["benchmarks"].values():
            low, high = (100 * end for end in plain["interval"])
            assert f"{100 * plain['pass@1']:.1f}% {low:.1f}–{high:.1f} of {plain['n']}" in text
    for name in ("fine", "r1"):
        manifest = json.loads((full_run / f"verify.{name}/manifest.json").read_text())
        counts = manifest["details"]["outcomes"]
        row = " ".join(str(counts.get(outcome, 0)) for outcome in OUTCOMES)
        assert f"verify.{name} {row}" in text
    assert "probability 0.61 (AUROC; 0.5 is chance; 95% interval 0.44–0.78; 9 problems" in text
    assert "6 pairs came from 15 prompts" in text
    assert "same logits as the checkpoint on 64 tokens" in text
    assert "12.0 tokens shorter" in text
    assert "longer in 1 pairs and shorter in 5 (sign test: p = 0.22)" in text
    assert "No pair by judge_open: no task has two not executed answers." in text
    assert "sft.coarse 3 min 51 s" in text
    assert "mean middle chars 87.25" in text
    assert "HumanEval/3: defines below_it" in text


def test_a_changed_artifact_changes_the_page(
    full_run: Path, full_page: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(full_run, copy)
    path = copy / "eval.dpo/result.json"
    result = json.loads(path.read_text())
    result["benchmarks"]["humaneval"]["pass@1"] = 0.8125
    write_json(path, result)
    text = Page(write_report(copy, copy / "other.html").read_text("utf-8")).text
    assert "81.2%" in text
    assert "81.2%" not in Page(full_page).text


def test_a_control_is_compared_with_dpo_and_later_rounds_stand_behind_the_first(
    full_run: Path, full_page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(full_run, copy)
    made = ["eval.sft_on_chosen", "eval.dpo.r2", "eval.sft_on_chosen.r2"]
    for name, like in zip(made, ("eval.mixed", "eval.coarse", "eval.fine"), strict=True):
        shutil.copytree(copy / like, copy / name)
    for name in ("sft.chosen.r1", "sample.r2", "verify.r2", "pair.r2", "sft.chosen.r2", "dpo.r2"):
        twin = "sft.fine" if name.startswith("sft.") else name.replace("r2", "r1")
        shutil.copytree(copy / twin, copy / name)
    manifests = {path.parent.name: path for path in copy.glob("*/manifest.json")}
    del manifests["report"]
    shas = {name: json.loads(path.read_text())["content_sha"] for name, path in manifests.items()}
    stage(copy, "report", settings={"title": "With a control"}, **shas)
    view = collect(copy)
    order = [stage.id for stage in view.stages]
    assert order[order.index("pair.r1") :] == [
        *("pair.r1", "sft.chosen.r1", "eval.sft_on_chosen", "dpo.r1", "eval.dpo"),
        *("sample.r2", "verify.r2", "pair.r2", "sft.chosen.r2", "eval.sft_on_chosen.r2"),
        *("dpo.r2", "eval.dpo.r2", "export", "report"),
    ]
    names = [evaluation.checkpoint for evaluation in view.evaluations]
    assert names[4:] == ["sft_on_chosen", "dpo", "sft_on_chosen.r2", "dpo.r2"]
    found = control_comparisons(view.evaluations)
    assert {(c.first, c.last) for c in found} == {
        ("sft_on_chosen", "dpo"),
        ("sft_on_chosen.r2", "dpo.r2"),
    }
    text = Page(write_report(copy, copy / "other.html").read_text("utf-8")).text
    print_report(copy)
    shown = capsys.readouterr().out
    for comparison in found:
        assert finding(comparison) in text
    assert shown.count("6 preference pairs") == 2
    assert "a control was trained" in text
    assert "a control was trained" not in Page(full_page).text


def test_won_and_lost_problems_are_counted_from_the_verdicts(full_run: Path) -> None:
    found = comparisons(collect(full_run).evaluations)
    by_name = {c.benchmark: c for c in found}
    for name, comparison in by_name.items():
        solved = {}
        for checkpoint in ("start", "dpo"):
            solved[checkpoint] = {
                row["task_id"]
                for row in read_shards(full_run / f"eval.{checkpoint}/verdicts")
                if row["outcome"] == "accepted" and row["task_id"].startswith(f"{name}:")
            }
        assert comparison.won == len(solved["dpo"] - solved["start"])
        assert comparison.lost == len(solved["start"] - solved["dpo"])
        assert comparison.won - comparison.lost == round(comparison.change * PROBLEMS)
    assert "The 95% intervals overlap" in finding(by_name["humaneval"])
    assert "does not show that the model changed" in finding(by_name["humaneval"])


def test_other_settings_and_unscored_problems_are_told(full_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(full_run, copy)
    path = copy / "eval.dpo/result.json"
    result = json.loads(path.read_text())
    before = comparisons(collect(copy).evaluations)[0]
    scored = result["benchmarks"]["humaneval"]
    scored["settings"]["max_tokens"] = 800
    scored["problems"] = dict.fromkeys(scored["problems"], "infra_error") | {"x": "accepted"}
    write_json(path, result)
    after = comparisons(collect(copy).evaluations)[0]
    assert (before.different, after.different) == ([], ["max_tokens"])
    assert "different settings (max tokens)" in finding(after)
    assert (after.won, after.lost) == (None, None)
    assert "no problem in common" in finding(after)


def test_nothing_that_a_model_wrote_becomes_markup(full_page: str) -> None:
    page = Page(full_page)
    assert page.open == []  # every tag is closed by its own
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "iframe", "object", "embed", "link", "form", "base"}
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert "<script>alert('x')</script>" in page.text  # shown, as text
    assert "é漢字🙂" in page.text
    for hidden, shown in (("\u202e", r"\u202e"), ("\x1b", r"\x1b"), ("\x00", r"\x00")):
        assert hidden not in full_page
        assert shown in page.text


def test_long_answers_are_clipped_and_say_so(full_page: str) -> None:
    assert "A" * 2500 in full_page
    assert "A" * 3500 not in full_page
    assert "97,000 more characters are not shown" in full_page
    assert len(full_page) < 1_000_000


def test_nothing_is_loaded_from_anywhere(full_page: str) -> None:
    for tag, attributes in Page(full_page).tags:
        for key in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
            value = attributes.get(key)
            assert value is None or value.startswith("#"), (tag, key, value)
    assert "url(" not in full_page
    assert "@import" not in full_page


def test_links_within_the_page_and_descriptions_of_plots_have_their_targets(full_page: str) -> None:
    tags = Page(full_page).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [str(attributes["href"])[1:] for tag, attributes in tags if tag == "a"]
    plots = [attributes for _, attributes in tags if attributes.get("role") == "img"]
    named = [name for plot in plots for name in str(plot["aria-labelledby"]).split()]
    assert len(plots) > 10
    assert set(links + named) <= set(ids)


def test_weak_isolation_and_a_related_judge_stand_at_the_top(full_page: str) -> None:
    text = Page(full_page).text
    top = text[: text.index("pass@1 in percent")]
    assert "Weaker isolation: ns" in top
    assert "520 of 520 programs" in top
    assert "The policy was made from the judge, tiny/model." in top


def test_full_isolation_and_a_foreign_judge_raise_no_caution(tmp_path: Path) -> None:
    folder = tmp_path / "clean"
    row = verdict("s-1", "t/1", "accepted") | {"isolation": "container+ns", "engine": "docker"}
    table(folder / "verify.r1/verdicts", schemas.VERDICT, "verdict_id", [row])
    stage(folder, "verify.r1", details={"outcomes": {"accepted": 1}})
    scored = {"judgement_id": "j", "sample_id": "s-1", "status": "ok", "score": 0.5, "judge": "j"}
    table(folder / "judge.r1/judgements", schemas.JUDGEMENT, "judgement_id", [scored])
    stage(folder, "judge.r1", settings={"model": "org/Granite-8B"}, model="other")
    assert cautions(collect(folder)) == []
    kin = tmp_path / "kin"
    shutil.copytree(folder, kin)
    stage(kin, "judge.r1", settings={"model": "org/Granite-8B"}, details={"kin": "a relative"})
    assert [heading for heading, _ in cautions(collect(kin))] == [
        "The judge is a relative of the policy"
    ]


def test_a_half_done_run_shows_what_is_there_and_names_what_is_not(partial_run: Path) -> None:
    text = Page(write_report(partial_run, partial_run / "report.html").read_text("utf-8")).text
    assert "50.0%" in text
    assert "Begun and not finished: sft.coarse. sft.coarse: TrainingError: the loss is nan." in text
    for sentence in (
        "No model was exported yet",
        "No training stage with a curve is done yet",
        "No pairs are there yet",
        "No judge looked at this run's answers",
    ):
        assert sentence in text
    assert "eval.dpo" in text[text.index("Not in this run's folder") :]


@pytest.mark.parametrize("instance", [name for name in STAGES if name != "report"])
def test_any_single_stage_may_be_missing(
    full_run: Path, tmp_path: Path, instance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(full_run, copy)
    shutil.rmtree(copy / instance)
    text = Page(write_report(copy, copy / "report.html").read_text("utf-8")).text
    print_report(copy)
    for shown in (text, capsys.readouterr().out):
        assert re.search(rf"(Not in this|Not there).*{re.escape(instance)}", shown, re.DOTALL)


def test_the_terminal_shows_scores_stages_and_places(
    full_run: Path, full_page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(full_run)
    shown = capsys.readouterr().out
    for checkpoint, solved in SOLVED.items():
        assert re.search(rf"{checkpoint} .* {100 * solved / PROBLEMS:.1f}% \(", shown)
    assert "6 preference pairs (exec_strict 5, judge_within_accepted 1) from 15" in shown
    assert f"model:  {full_run / 'export/model'}\n" in shown
    assert f"report: {full_run / 'report.html'}\n" in shown
    assert "\x1b" not in shown


def test_no_score_is_cut_where_many_benchmarks_stand(
    full_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(full_run, copy)
    shutil.rmtree(copy / "report")
    for checkpoint in SOLVED:
        make_repeated(copy, checkpoint)
    print_report(copy)
    shown = capsys.readouterr().out.split("in all")[0]
    assert "HumanEval, 4 answers a problem" in shown
    assert "…" not in shown


def test_the_terminal_shows_a_half_done_run(
    partial_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(partial_run)
    shown = capsys.readouterr().out
    assert "not done" in shown
    assert "the loss is nan" in shown
    assert "not exported yet" in shown
    assert f"align report {partial_run}" in shown


def test_the_stage_writes_the_page_and_a_summary_that_does_not_depend_on_times(
    full_run: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(full_run, copy)
    (copy / "report.html").unlink(missing_ok=True)
    shutil.rmtree(copy / "report")
    begin(copy / "report", identity("report"))
    out = Output(copy / "report", identity("report"))
    inputs = {name: copy / name for name in STAGES if name != "report"}
    settings = ReportSettings(title="Titled <b>by</b> its recipe")
    with RunContext(copy, seed=0, sandbox=SandboxSettings(), serving=ServingSettings()) as context:
        first = run(settings, inputs, out, context)
        stage(copy, "export", seconds=99.0)
        again = run(settings, inputs, out, context)
        del inputs["eval.fine"]  # as in a recipe that has no fine stage any more
        without = run(settings, inputs, out, context).details["scores"]
        assert without.keys() | {"fine"} == first.details["scores"].keys()
        assert "fine" not in without
        run(settings, inputs | {"eval.fine": copy / "eval.fine"}, out, context)
    assert first.content_sha == again.content_sha
    summary = json.loads((copy / "report/summary.json").read_text())
    assert summary["scores"]["dpo"]["humaneval"]["pass@1"] == SOLVED["dpo"] / PROBLEMS
    assert "Titled &lt;b&gt;by&lt;/b&gt; its recipe" in (copy / "report" / "report.html").read_text(
        "utf-8"
    )


def test_what_was_made_from_an_earlier_result_is_not_shown_as_done(
    full_run: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(full_run, copy)
    made = {"model": "content-of-sft.mixed"}
    stage(copy, "eval.mixed", **made)
    stage(copy, "dpo.r1", **made)
    stage(copy, "eval.dpo", model="content-of-dpo.r1")
    assert {"mixed", "dpo"} <= {each.checkpoint for each in collect(copy).evaluations}
    path = copy / "sft.mixed/manifest.json"
    write_json(path, json.loads(path.read_text()) | {"content_sha": "content of another rate"})
    view = collect(copy)
    undone = {each.id for each in view.stages if not each.done}
    assert undone == {"eval.mixed", "dpo.r1", "eval.dpo"}
    assert "report" not in {each.id for each in view.stages}, "it shows what is no more"
    assert view.evaluations[-1].checkpoint == "fine"
    for path in copy.glob("*/identity.json"):  # as they were before they said it
        identity_ = json.loads(path.read_text())
        del identity_["named"]
        write_json(path, identity_)
    assert "dpo" in {each.checkpoint for each in collect(copy).evaluations}
    (caution,) = [words for heading, words in cautions(view) if heading == "The run is not done"]
    assert "eval.dpo: made from an earlier result of a stage that has another now" in caution


def test_a_stage_that_the_recipe_has_no_more_is_not_shown(full_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(full_run, copy)
    inputs = {name: f"content-of-{name}" for name in STAGES if name not in ("report", "eval.dpo")}
    stage(copy, "report", settings={"title": "Without"}, **inputs)
    path = copy / "eval.dpo/manifest.json"
    manifest = json.loads(path.read_text())
    write_json(path, manifest | {"finished": "2020-01-01T00:00:00Z"})
    assert "eval.dpo" not in {each.id for each in collect(copy).stages}
    write_json(path, manifest | {"finished": "2120-01-01T00:00:00Z"})
    assert "eval.dpo" in {each.id for each in collect(copy).stages}, "the report knew nothing of it"


def test_noise_is_as_wide_as_the_problems_moved(tmp_path: Path) -> None:
    """Of 40 problems with four answers each, 10 moved by one answer: not ten that changed sides."""
    for checkpoint, right in (("start", 2), ("dpo", 3)):
        make_evaluation(tmp_path / "run", checkpoint)
        make_repeated(tmp_path / "run", checkpoint)
        path = tmp_path / "run" / f"eval.repeated.{checkpoint}" / "result.json"
        result = json.loads(path.read_text())
        passes = result["benchmarks"]["humaneval"]["passes"]
        passes |= {name: [right, 4] for name in list(passes)[:10]}
        write_json(path, result)
    (found,) = [
        each
        for each in comparisons(collect(tmp_path / "run").evaluations)
        if each.benchmark == "humaneval@4"
    ]
    assert found.noise == pytest.approx(1.96 * math.sqrt(10 / 16) / PROBLEMS)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no stage of a run"):
        write_report(tmp_path, tmp_path / "report.html")
    with pytest.raises(InputError, match="no stage of a run"):
        print_report(tmp_path / "nothing")


def test_a_broken_result_is_an_error_that_names_its_file(partial_run: Path) -> None:
    (partial_run / "eval.start/result.json").write_text('{"benchmarks": {"humaneval": {}}}')
    with pytest.raises(ArtifactError, match=r"eval\.start/result\.json"):
        collect(partial_run)
