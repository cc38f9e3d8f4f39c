"""The data stage: bad rows are listed, benchmarks stay out, sources are mixed, problems split."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from align.data import run
from align.settings import CHECKLIST, DataSettings
from align.stage import Output
from tests.conftest import RecordingBar, RecordingContext
from tests.data_stage import chat, stage, table, task, write

DEMO = Path(__file__).parent.parent / "recipes" / "demo"


def test_rows_keep_their_origin_and_licence(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    rows = write(tmp_path / "chats.jsonl", [chat("a?", "b."), chat("c?", "d.")])
    summary = stage(output, context, rows, None)
    assert summary.counts["rows"] == 2
    found = {row["messages"][0]["content"]: row for row in table(output, "rows")}
    assert json.loads(found["c?"]["origin"]) == {
        "source": "test",
        "file": "chats.jsonl",
        "line": "2",
    }
    assert found["c?"]["licence"] == "Apache-2.0"


def test_rows_of_a_list_on_one_line_are_dropped_one_by_one(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    good = {"prompt": "Add one to x.", "completion": "```python\nx += 1\n```"}
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{}, {}, {}, good]), encoding="utf-8")
    summary = stage(output, context, path, None)
    assert summary.counts["bad_row"] == 3
    dropped = [row["place"] for row in table(output, "dropped")]
    assert sorted(dropped) == sorted(f"{path}:1{item}" for item in ("", " item 2", " item 3"))
    (row,) = table(output, "rows")
    assert json.loads(row["origin"])["line"] == "1 item 4"


def test_a_copied_benchmark_problem_is_taken_out_of_rows_and_tasks(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    copied = (
        "Check if in given list of numbers, are any two numbers closer to each other than given "
        "threshold."
    )
    rows = write(tmp_path / "chats.jsonl", [chat(copied, "Yes."), chat("a?", "b.")])
    named = task("named", reference="def has_close_elements(x):\n    return x + 1\n")
    tasks = write(tmp_path / "tasks.jsonl", [named, task("good")])
    summary = stage(output, context, rows, tasks)
    assert summary.counts["contaminated"] == 2
    assert summary.details["contaminated_by"] == {"humaneval HumanEval/0": 2}
    assert [row["task_id"] for row in table(output, "tasks")] == ["good"]
    reasons = [skip["reason"] for skip in summary.details["skipped"]]
    assert any("HumanEval/0, in the prompt: 10 words" in reason for reason in reasons)
    assert any("defines has_close_elements" in reason for reason in reasons)
    hits = {(Path(hit["place"]).name, hit["rule"]) for hit in table(output, "contamination")}
    assert {("chats.jsonl:1", "ngram"), ("tasks.jsonl:1", "entry_point")} <= hits


def test_rows_must_not_overlap_held_out_tasks(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    question = "Count how many of the given old ships carry more than a hundred green barrels."
    messages = [{"role": "user", "content": question}]
    rows = write(tmp_path / "chats.jsonl", [chat(question, "Many."), chat("a?", "b.")])
    cases = set()
    for name in "abcdef":
        tasks = [task(name, messages=messages), *(task(f"t{n}") for n in range(30))]
        path = write(tmp_path / f"{name}.jsonl", tasks)
        out = Output(tmp_path / name, output.identity)
        summary = stage(out, context, rows, path, held_out=0.5)
        held = name in {row["task_id"] for row in table(out, "held_out")}
        assert summary.counts.get("contaminated", 0) == int(held)
        assert summary.counts["rows"] == 2 - int(held)
        cases.add(held)
    assert cases == {True, False}


def test_a_benchmark_may_be_a_table(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    text = "Sort the coloured shells by the number of stripes that each one of them carries."
    benchmark = write(tmp_path / "own.jsonl", [{"task_id": 7, "text": text}])
    rows = write(tmp_path / "a.jsonl", [chat(text, "Done."), chat("a?", "b.")])
    settings = DataSettings.model_validate({"rows": [str(rows)], "decontaminate": ["own.jsonl"]})
    inputs = {"rows.0": rows, "benchmark.own.jsonl": benchmark}
    summary = run(settings, inputs, output, context)
    assert summary.details["contaminated_by"] == {"own.jsonl 7": 1}


def test_sources_are_mixed_by_their_weights(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    first = write(tmp_path / "a.jsonl", [chat(f"a{n}?", "b.") for n in range(10)])
    second = write(
        tmp_path / "b.jsonl", [{"prompt": f"c{n}?", "completion": "d."} for n in range(10)]
    )
    sources = [{"path": str(first), "weight": 2.5}, {"path": str(second), "weight": 0.3}]
    summary = stage(output, context, sources, None)
    used = {Path(s["source"]).name: s["used"] for s in summary.details["sources"]}
    assert used == {"a.jsonl": 25, "b.jsonl": 3}
    assert [s["layouts"] for s in summary.details["sources"]] == [
        {"messages": 10},
        {"prompt/completion": 10},
    ]
    rows = table(output, "rows")
    assert len({row["row_id"] for row in rows}) == summary.counts["rows"] == 28
    uses = Counter(row["messages"][0]["content"] for row in rows)
    assert sorted(uses[f"a{n}?"] for n in range(10)) == [2] * 5 + [3] * 5


def test_the_seed_decides_order_and_remainder(tmp_path: Path, output: Output) -> None:
    rows = [chat(f"a{n}?", "b.") for n in range(40)]
    forwards = write(tmp_path / "a.jsonl", rows)
    backwards = write(tmp_path / "b.jsonl", rows[::-1])
    found = []
    for name, path, seed in (("x", forwards, 1), ("y", backwards, 1), ("z", forwards, 2)):
        out = Output(tmp_path / name, output.identity)
        stage(out, RecordingContext(seed), [{"path": str(path), "weight": 0.5}], None)
        found.append([row["messages"][0]["content"] for row in table(out, "rows")])
    assert found[0] == found[1] != found[2]
    assert found[0] != sorted(found[0])


def test_one_table_named_twice_is_two_sources(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    path = str(write(tmp_path / "a.jsonl", [chat("a?", "b.")]))
    summary = stage(output, context, [{"path": path}, {"path": path}], None)
    assert [source["source"] for source in summary.details["sources"]] == [path, f"{path} (2)"]
    assert [source["used"] for source in summary.details["sources"]] == [1, 0]


def test_rows_without_code_are_capped(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    code = [chat(f"Write f{n}.", f"```python\ndef f{n}(): ...\n```") for n in range(9)]
    talk = [chat(f"Who wrote book {n}?", "A poet did.") for n in range(30)]
    path = write(tmp_path / "a.jsonl", code + talk)
    summary = stage(output, context, path, None, max_no_code=0.1)
    assert summary.details["languages"] == {"python": 9, "no code": 1}
    assert summary.counts["no_code"] == 29


def test_the_cap_holds_after_the_sources_weights(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    code = [chat(f"Write f{n}.", f"```python\ndef f{n}(): ...\n```") for n in range(90)]
    talk = [chat(f"Who wrote book {n}?", "A poet did.") for n in range(30)]
    sources = [
        {"path": str(write(tmp_path / "code.jsonl", code)), "weight": 0.2},
        {"path": str(write(tmp_path / "talk.jsonl", talk)), "weight": 2.0},
    ]
    summary = stage(output, context, sources, None, max_no_code=0.1)
    assert summary.details["languages"] == {"python": 18, "no code": 2}


def test_rows_that_differ_by_an_operator_are_no_duplicates(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    marks = "+-*/%"
    rows = [
        chat(f"Write a function that returns a {mark} b.", f"def f(a, b):\n    return a {mark} b")
        for mark in marks
    ]
    summary = stage(output, context, write(tmp_path / "a.jsonl", rows), None)
    assert summary.counts["rows"] == len(marks)


def test_the_quality_filter_takes_out_low_and_unscored_rows(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    low, high = ({item: score for item in CHECKLIST} for score in (2, 4))
    rows = [
        {**chat("a?", "b."), "checklist": high},
        {**chat("c?", "d."), "checklist": low},
        {**chat("e?", "f."), "checklist": {**high, "clarity": None}},
        chat("g?", "h."),
    ]
    path = write(tmp_path / "a.jsonl", rows)
    summary = stage(output, context, path, None, quality={"min_score": 3.0})
    assert (summary.counts["low_quality"], summary.counts["unscored"]) == (1, 2)
    (row,) = table(output, "rows")
    assert row["quality"] == 4.0
    assert row["checklist"]["difficulty"] == 4.0
    assert table(Output(output.path, output.identity), "dropped")[0]["reason"].startswith(
        "scores 2"
    )


def test_near_duplicates_leave_the_earlier_row(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    words = [f"word{n}" for n in range(60)]
    answer = " ".join(words)
    changed = " ".join([*words[:-1], "other"])
    rows = [chat("Say it all.", answer), chat("Say it all.", changed), chat("Say it now!", answer)]
    summary = stage(output, context, write(tmp_path / "a.jsonl", rows), None)
    (dropped,) = table(output, "dropped")
    assert (dropped["kind"], dropped["place"]) == ("near_duplicate", f"{tmp_path}/a.jsonl:2")
    assert f"the row at {tmp_path}/a.jsonl:1" in dropped["reason"]
    assert summary.counts["rows"] == 2
    exact = Output(tmp_path / "exact", output.identity)
    assert (
        stage(exact, context, tmp_path / "a.jsonl", None, near_duplicate=None).counts["rows"] == 3
    )


def test_a_killed_stage_goes_on_to_the_same_rows(
    tmp_path: Path, output: Output, context: RecordingContext
) -> None:
    path = write(tmp_path / "a.jsonl", [chat(f"a{n}?", "b.") for n in range(50)] + [{}])
    whole = stage(output, context, path, None)
    cut = Output(tmp_path / "cut", output.identity, shard_rows=10)
    with pytest.raises(RuntimeError, match="cut here"):
        stage(cut, CutContext(), path, None)
    assert (cut.path / "rows" / "journal.jsonl").exists()
    again = stage(cut, context, path, None)
    assert again.content_sha == whole.content_sha
    assert again.counts == whole.counts
    assert not (cut.path / "work").exists()


class CutContext(RecordingContext):
    """Ends the work while the rows are written."""

    @contextmanager
    def progress(self, title: str, total: int | None) -> Iterator[RecordingBar]:
        with super().progress(title, total) as bar:
            yield CutBar() if title.startswith("writes") else bar


class CutBar(RecordingBar):
    def advance(self, steps: int = 1) -> None:
        super().advance(steps)
        if self.steps == 25:
            raise RuntimeError("cut here")


DATA = Path(os.environ.get("ALIGN_DATA", ""))


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "gpteacher_codegen").exists(), reason="$ALIGN_DATA is not set")
def test_real_data_goes_through_and_loses_what_overlaps(
    output: Output, context: RecordingContext
) -> None:
    sources = [{"path": str(DATA / name)} for name in ("gpteacher_codegen", "octopack_instruct")]
    summary = stage(output, context, sources, None)
    read = {Path(s["source"]).name: s for s in summary.details["sources"]}
    assert read["gpteacher_codegen"]["read"] == 4535
    assert read["gpteacher_codegen"]["layouts"] == {"alpaca": 4535}
    assert read["octopack_instruct"]["read"] == 1178 + 151
    assert read["octopack_instruct"]["layouts"] == {"prompt/completion": 1329}
    for source in read.values():
        assert source["kept"] + sum(source["dropped"].values()) == source["read"]
        assert "bad_row" not in source["dropped"]
    overlaps = [hit for hit in table(output, "contamination") if "gpteacher" in hit["place"]]
    assert len({hit["problem"] for hit in overlaps if hit["rule"] == "ngram"}) >= 13
    left = {row["place"] for row in table(output, "dropped") if row["kind"] == "contaminated"}
    assert {hit["place"] for hit in overlaps} <= left


def test_the_demo_data_is_large_enough_and_clean(output: Output, context: RecordingContext) -> None:
    summary = stage(output, context, DEMO / "instructions.jsonl", DEMO / "tasks")
    assert summary.counts["rows"] >= 200
    assert summary.counts["tasks"] >= 120
    assert set(summary.counts) == {"rows", "tasks", "held_out"}, summary.details["skipped"]
