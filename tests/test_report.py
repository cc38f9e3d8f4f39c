"""The report of a run: what it shows, and that nothing a model wrote can act in it."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from align import rows as schemas
from align.artifacts import Identity, TableWriter, read_shards, write_json
from align.context import RunContext
from align.errors import ArtifactError, InputError
from align.manifest import begin, finish
from align.report import run, write_report
from align.report.collect import collect
from align.report.evaluations import comparisons, sign_test
from align.report.plots import Interval, Line, intervals, lines
from align.report.stages import STAGES
from align.report.terminal import print_report
from align.report.words import cautions, finding, visible
from align.settings import ReportSettings, SandboxSettings, ServingSettings
from align.stage import Output, Summary

HOSTILE = (
    "</pre><script>alert('x')</script><img src=x onerror=alert(1)> \u202e \x1b[31m é漢字🙂 \x00"
)
SOLVED = {"start": 20, "coarse": 19, "fine": 22, "mixed": 22, "dpo": 25}
PROBLEMS = 40
OUTCOMES = ("accepted", "wrong_answer", "runtime_error", "time_limit", "compile_error", "no_code")


def identity(instance: str, **inputs: str) -> Identity:
    return Identity(instance, f"config-of-{instance}", inputs)


def stage(
    folder: Path,
    instance: str,
    *,
    counts: dict[str, int] | None = None,
    details: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    seconds: float = 4.0,
    **inputs: str,
) -> None:
    made = identity(instance, **inputs)
    begin(folder / instance, made)
    finish(
        folder / instance,
        made,
        Summary(f"content-of-{instance}", counts or {}, details or {}),
        settings=settings or {"note": f"test settings of {instance}"},
        seed=7,
        seconds=seconds,
    )


def table(folder: Path, schema: pa.Schema, column: str, rows: list[dict[str, Any]]) -> None:
    with TableWriter(folder, schema, column, identity(folder.parent.name)) as writer:
        for row in rows:
            writer.add({name: row.get(name) for name in schema.names})


def verdict(sample_id: str, task_id: str, outcome: str, index: int = 0) -> dict[str, Any]:
    detail = "" if outcome == "accepted" else f"test 2: expected [1, 2], got {HOSTILE}"
    tests = [
        {"index": 0, "outcome": "accepted", "detail": ""},
        {"index": 1, "outcome": outcome, "detail": detail},
    ]
    return {
        "verdict_id": f"v-{sample_id}",
        "sample_id": sample_id,
        "task_id": task_id,
        "sample_index": index,
        "outcome": outcome,
        "passed": 2 if outcome == "accepted" else 1,
        "total": 2,
        "tests": json.dumps(tests),
        "strength": "strong",
        "detail": detail,
        "engine": "namespaces",
        "isolation": "ns",
        "image": "sha256:0123abcd",
    }


def sample(sample_id: str, task_id: str, text: str) -> dict[str, Any]:
    asked = f"Test data: write a function for {task_id}."
    return {
        "sample_id": sample_id,
        "task_id": task_id,
        "sample_index": 0,
        "messages": [{"role": "user", "content": asked}],
        "prefill": "",
        "text": text,
        "code": text,
        "finish_reason": "stop",
        "n_tokens": 20,
        "sum_logprob": -3.0,
    }


def make_round(folder: Path, name: str, chance: random.Random) -> dict[str, int]:
    """Writes sample.NAME and verify.NAME; returns the outcomes."""
    samples, verdicts, outcomes = [], [], dict.fromkeys(OUTCOMES, 0)
    for number in range(60):
        task_id = f"test/t{number // 4:02d}"
        sample_id = f"s-{name}-{number:03d}"
        outcome = chance.choices(OUTCOMES, weights=(50, 25, 10, 4, 6, 5))[0]
        outcomes[outcome] += 1
        samples.append(
            sample(sample_id, task_id, f"def solve(values):\n    return values  # {HOSTILE}")
        )
        verdicts.append(verdict(sample_id, task_id, outcome))
    table(folder / f"sample.{name}/samples", schemas.SAMPLE, "sample_id", samples)
    table(folder / f"verify.{name}/verdicts", schemas.VERDICT, "verdict_id", verdicts)
    stage(folder, f"sample.{name}", counts={"samples": 60, "tasks": 15}, seconds=71.4)
    found = {key: count for key, count in outcomes.items() if count}
    stage(
        folder,
        f"verify.{name}",
        counts={"samples": 60, **found, "weak": 0},
        details={"outcomes": found, "skipped": []},
        seconds=6.2,
    )
    return found


def make_evaluation(folder: Path, checkpoint: str) -> None:
    benchmarks = {}
    for name, solved, stops in (
        ("humaneval", SOLVED[checkpoint], 0.925),
        ("humaneval_infilling", SOLVED[checkpoint] - 12, 0.31),
    ):
        rows = [
            verdict(
                f"e{checkpoint}-{name}-{number}",
                f"{name}/{number}",
                "accepted" if (number * 7 + len(checkpoint)) % PROBLEMS < solved else "no_code",
            )
            for number in range(PROBLEMS)
        ]
        table(
            folder / f"eval.{checkpoint}" / name / "verdicts", schemas.VERDICT, "verdict_id", rows
        )
        share = solved / PROBLEMS
        spread = 1.9 * math.sqrt(share * (1 - share) / PROBLEMS)
        benchmarks[name] = {
            "n": PROBLEMS,
            "pass@1": share,
            "interval": [share - spread, share + spread],
            "stop_rate": stops,
            "outcomes": {"accepted": solved, "no_code": PROBLEMS - solved},
        }
    write_json(folder / f"eval.{checkpoint}" / "result.json", {"benchmarks": benchmarks})
    stage(
        folder,
        f"eval.{checkpoint}",
        counts={"problems": 2 * PROBLEMS},
        seconds=55.0,
        model="start-weights",
    )


def make_training(folder: Path, chance: random.Random) -> None:
    for name, rows, seconds in (("coarse", 240, 231.0), ("fine", 52, 64.0), ("mixed", 160, 143.0)):
        curve = [
            {"step": step, "loss": 0.6 + math.exp(-step / 14) + chance.uniform(-0.06, 0.06)}
            for step in range(1, 61)
        ]
        stage(
            folder,
            f"sft.{name}",
            counts={"rows": rows, "steps": 60, "tokens": rows * 161},
            details={"curve": curve, "seed": 12},
            seconds=seconds,
            model="start-weights",
        )
    curve = [
        {
            "step": step,
            "loss": 0.69 - step / 150,
            "preference_loss": 0.69 - step / 120,
            "margin": step / 36 + chance.uniform(-0.05, 0.05),
            "accuracy": min(1.0, 0.5 + step / 60),
            "logp_chosen": -31 + step / 20,
            "logp_rejected": -33 - step / 8,
            "lr": 2e-5,
        }
        for step in range(1, 25)
    ]
    stage(
        folder,
        "dpo.r1",
        counts={"pairs": 6, "steps": 24},
        details={"curve": curve},
        seconds=118.3,
        model="content-of-sft.mixed",
    )


def make_judge_and_pairs(folder: Path, chance: random.Random) -> None:
    judgements = [
        {
            "judgement_id": f"j-{number}",
            "sample_id": f"s-r1-{number:03d}",
            "task_id": f"test/t{number // 4:02d}",
            "rubric": "code_quality/1",
            "status": "ok" if number % 9 else "parse_error",
            "score": round(chance.betavariate(4, 2), 4) if number % 9 else None,
            "judge": "test-judge",
        }
        for number in range(40)
    ]
    table(folder / "judge.r1/judgements", schemas.JUDGEMENT, "judgement_id", judgements)
    auroc = {"value": 0.6123, "low": 0.44, "high": 0.78, "problems": 9, "comparisons": 31}
    stage(
        folder,
        "judge.r1",
        counts={"judged": 40, "ok": 35, "parse_error": 5},
        details={"auroc": auroc, "statuses": {"ok": 35, "parse_error": 5}},
        settings={"model": None, "rubric": "code_quality"},
        seconds=48.0,
        model="start-weights",
    )
    pairs = [
        {
            "pair_id": f"p-{number}",
            "prompt": [{"role": "user", "content": f"Test data: task {number}. {HOSTILE}"}],
            "chosen": [
                {"role": "assistant", "content": f"```python\n{HOSTILE}\nreturn {number}\n```"}
            ],
            "rejected": [{"role": "assistant", "content": "A" * 100_000 if number == 0 else "no"}],
            "task_id": f"test/t{number:02d}",
            "rule": "judge_within_accepted" if number == 4 else "exec_strict",
            "margin": 0.5,
            "similarity": 0.7321,
            "length_delta": -12,
            "rejected_verdict_id": f"v-s-r1-{number:03d}",
        }
        for number in range(6)
    ]
    table(folder / "pair.r1/pairs", schemas.PAIR, "pair_id", pairs)
    stage(
        folder,
        "pair.r1",
        counts={"pairs": 6, "prompts": 15, "exec_strict": 5, "judge_within_accepted": 1},
        details={
            "prompts": {"mixed": 9, "all accepted": 4, "none accepted": 2},
            "by_rule": {"exec_strict": 5, "judge_within_accepted": 1},
            "refused": {"same code": 11, "too similar": 3},
            "mean_length_delta": -12.0,
        },
        seconds=0.4,
    )


def make_data(folder: Path) -> None:
    messages = [{"role": "user", "content": "test"}, {"role": "assistant", "content": "data"}]
    rows = [
        {"row_id": f"t-{n}", "kind": "chat", "messages": messages, "licence": licence}
        for n, licence in enumerate(["Apache-2.0"] * 5 + ["MIT"] * 2)
    ]
    table(folder / "data/rows", schemas.TRAIN_ROW, "row_id", rows)
    skipped = [
        {
            "kind": "contaminated",
            "place": "rows.jsonl:4",
            "reason": "HumanEval/3: defines below_it",
        },
        *(
            {"kind": "bad_row", "place": f"rows.jsonl:{n}", "reason": f"no turn {HOSTILE}"}
            for n in range(30, 60)
        ),
    ]
    stage(
        folder,
        "data",
        counts={"rows": 7, "tasks": 15, "held_out": 0, "contaminated": 1, "bad_row": 30},
        details={"skipped": skipped, "decontaminated_against": ["humaneval"]},
        settings={"ngram": 10, "rows": ["rows.jsonl"]},
        seconds=1.2,
    )
    fim = [{"row_id": f"f-{n}", "kind": "fim", "licence": "BSD-3-Clause"} for n in range(3)]
    table(folder / "fim/rows", schemas.TRAIN_ROW, "row_id", fim)
    stage(folder, "fim", counts={"rows": 3, "files": 2}, details={"mean_middle_chars": 87.25})
    table(folder / "select.fine/rows", schemas.TRAIN_ROW, "row_id", rows[:2])
    stage(folder, "select.fine", counts={"rows": 2, "tasks": 15, "solved": 12, "unsolved": 3})


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "test-run"
    chance = random.Random(1)
    make_data(folder)
    make_training(folder, chance)
    make_round(folder, "fine", chance)
    make_round(folder, "r1", chance)
    make_judge_and_pairs(folder, chance)
    for checkpoint in SOLVED:
        make_evaluation(folder, checkpoint)
    stage(folder, "export", counts={"files": 9}, seconds=21.0)
    stage(folder, "report", settings={"title": "Report of test data"}, seconds=1.0)
    log = [
        {"stage": "sft.coarse", "event": "warning", "message": f"2 rows are too long {HOSTILE}"},
        {"stage": "sft.coarse", "event": "done"},
    ]
    (folder / "log.jsonl").write_text(
        "".join(json.dumps(x) + "\n" for x in log) + '{"torn', "utf-8"
    )
    return folder


@pytest.fixture(scope="session")
def full_page(full_run: Path) -> str:
    return write_report(full_run, full_run / "report.html").read_text("utf-8")


@pytest.fixture
def partial_run(tmp_path: Path) -> Path:
    folder = tmp_path / "half"
    make_data(folder)
    make_evaluation(folder, "start")
    begin(folder / "sft.coarse", identity("sft.coarse"))
    line = {"stage": "sft.coarse", "event": "failed", "error": "TrainingError: the loss is nan"}
    (folder / "log.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    return folder


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
    assert "12.0 tokens shorter" in text
    assert "sft.coarse 3 min 51 s" in text
    assert "mean middle chars 87.25" in text
    assert "HumanEval/3: defines below_it" in text


def test_a_changed_artifact_changes_the_page(full_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(full_run, copy)
    path = copy / "eval.dpo/result.json"
    result = json.loads(path.read_text())
    result["benchmarks"]["humaneval"]["pass@1"] = 0.8125
    write_json(path, result)
    text = Page(write_report(copy, copy / "other.html").read_text("utf-8")).text
    assert "81.2%" in text
    assert "81.2%" not in Page((full_run / "report.html").read_text("utf-8")).text


def test_won_and_lost_problems_are_counted_from_the_verdicts(full_run: Path) -> None:
    found = comparisons(collect(full_run).evaluations)
    by_name = {c.benchmark: c for c in found}
    for name, comparison in by_name.items():
        solved = {}
        for checkpoint in ("start", "dpo"):
            rows = read_shards(full_run / f"eval.{checkpoint}" / name / "verdicts")
            solved[checkpoint] = {r["task_id"] for r in rows if r["outcome"] == "accepted"}
        assert comparison.won == len(solved["dpo"] - solved["start"])
        assert comparison.lost == len(solved["start"] - solved["dpo"])
        assert comparison.won - comparison.lost == round(comparison.change * PROBLEMS)
    assert "The 95% intervals overlap" in finding(by_name["humaneval"])
    assert "does not show that the model changed" in finding(by_name["humaneval"])


@pytest.mark.parametrize(
    ("won", "lost", "p"),
    [(0, 0, 1.0), (5, 0, 0.0625), (0, 6, 0.03125), (3, 3, 1.0), (7, 2, 92 / 512)],
)
def test_the_sign_test_is_exact(won: int, lost: int, p: float) -> None:
    assert sign_test(won, lost) == pytest.approx(p)


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
    top = text[: text.index("Greedy pass@1")]
    assert "Weaker isolation: ns" in top
    assert "520 of 520 programs" in top
    assert "The judge is the checkpoint that this run started from" in top


def test_full_isolation_and_a_foreign_judge_raise_no_caution(tmp_path: Path) -> None:
    folder = tmp_path / "clean"
    row = verdict("s-1", "t/1", "accepted") | {"isolation": "container+ns", "engine": "docker"}
    table(folder / "verify.r1/verdicts", schemas.VERDICT, "verdict_id", [row])
    stage(folder, "verify.r1", details={"outcomes": {"accepted": 1}})
    stage(folder, "dpo.r1", model="x")
    write_json(folder / "dpo.r1/model/config.json", {"model_type": "qwen2"})
    scored = {"judgement_id": "j", "sample_id": "s-1", "status": "ok", "score": 0.5, "judge": "j"}
    table(folder / "judge.r1/judgements", schemas.JUDGEMENT, "judgement_id", [scored])
    stage(folder, "judge.r1", settings={"model": "org/Granite-8B"}, model="other")
    assert cautions(collect(folder)) == []
    kin = tmp_path / "kin"
    shutil.copytree(folder, kin)
    stage(kin, "judge.r1", settings={"model": "Qwen/Qwen2.5-Coder-7B"}, model="other")
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
    (copy / "report.html").unlink()
    shutil.rmtree(copy / "report")
    begin(copy / "report", identity("report"))
    out = Output(copy / "report", identity("report"))
    inputs = {name: copy / name for name in STAGES if name != "report"}
    settings = ReportSettings(title="Titled <b>by</b> its recipe")
    with RunContext(copy, seed=0, sandbox=SandboxSettings(), serving=ServingSettings()) as context:
        first = run(settings, inputs, out, context)
        stage(copy, "export", seconds=99.0)
        again = run(settings, inputs, out, context)
    assert first.content_sha == again.content_sha
    summary = json.loads((copy / "report/summary.json").read_text())
    assert summary["scores"]["dpo"]["humaneval"]["pass@1"] == SOLVED["dpo"] / PROBLEMS
    assert "Titled &lt;b&gt;by&lt;/b&gt; its recipe" in (copy / "report.html").read_text("utf-8")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no stage of a run"):
        write_report(tmp_path, tmp_path / "report.html")
    with pytest.raises(InputError, match="no stage of a run"):
        print_report(tmp_path / "nothing")


def test_a_broken_result_is_an_error_that_names_its_file(partial_run: Path) -> None:
    (partial_run / "eval.start/result.json").write_text('{"benchmarks": {"humaneval": {}}}')
    with pytest.raises(ArtifactError, match=r"eval\.start/result\.json"):
        collect(partial_run)


@pytest.mark.parametrize(
    "points",
    [
        [(1, 0.5)],
        [(1, 2.0), (2, 2.0)],
        [(1, float("nan")), (2, 1.0), (3, float("inf"))],
        [(step, 1e-9 * step) for step in range(5000)],
        [(1, -1e6), (2, 1e6)],
    ],
)
def test_any_curve_is_drawn_inside_its_plot(points: list[tuple[float, float]]) -> None:
    drawn = str(lines([Line("loss", points)], "a curve"))
    places = re.findall(r'points="([^"]*)"', drawn)
    numbers = [float(n) for place in places for n in re.split("[ ,]", place)]
    assert numbers
    assert all(-0.01 <= number <= 100.01 for number in numbers)
    assert len(drawn) < 30_000


def test_an_interval_stands_where_its_numbers_say() -> None:
    drawn = str(intervals([Interval("a", 0.5, 0.25, 0.75)], "shares"))
    dot = re.search(r'<circle class="dot" cx="([\d.]+)%"', drawn)
    ends = re.search(r'<line class="range" x1="([\d.]+)%" x2="([\d.]+)%"', drawn)
    assert dot and ends
    low, high = float(ends[1]), float(ends[2])
    assert float(dot[1]) == pytest.approx((low + high) / 2, abs=0.01)


@given(st.text(max_size=300), st.integers(1, 100))
def test_shown_text_holds_no_invisible_mark_and_keeps_the_rest(text: str, most: int) -> None:
    shown = visible(text)
    assert all(x in "\n\t" or x.isprintable() or unicodedata.category(x) == "Zs" for x in shown)
    shown.encode("utf-8")
    plain = "".join(letter for letter in text if letter.isprintable())
    assert visible(plain) == plain
    if len(text) > most:
        assert f"{len(text) - most:,} more characters" in visible(text, most)
