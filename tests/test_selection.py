"""Rejection sampling keeps what ran, and forgets no hard task."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from align import rows as schemas
from align.artifacts import Identity, write_parquet
from align.cli import app
from align.errors import InputError, RecipeError
from align.selection import run
from align.settings import SelectSettings
from align.stage import Output, Summary
from align.tables import read_rows
from sandbox.grade import code_sha
from tests.conftest import RecordingContext
from tests.pair_rows import BAD, BETTER, GOOD, sample, verdict


def select(
    folder: Path, samples: list[dict[str, Any]], verdicts: list[dict[str, Any]], per_task: int = 1
) -> tuple[Summary, list[dict[str, Any]], list[dict[str, Any]]]:
    write_parquet(folder / "samples.parquet", samples, schemas.SAMPLE)
    write_parquet(folder / "verdicts.parquet", verdicts, schemas.VERDICT)
    inputs = {name: folder / f"{name}.parquet" for name in ("samples", "verdicts")}
    if (folder / "judgements.parquet").exists():
        inputs["judgements"] = folder / "judgements.parquet"
    output = Output(folder / "out", Identity("select", "config"))
    summary = run(SelectSettings(per_task=per_task), inputs, output, RecordingContext())
    tables = [[row for _, row in read_rows(folder / "out" / name)] for name in ("rows", "unsolved")]
    return summary, tables[0], tables[1]


def test_the_likeliest_accepted_answer_is_kept_with_its_origin(tmp_path: Path) -> None:
    summary, rows, _ = select(
        tmp_path,
        [
            sample("a", GOOD, sum_logprob=-20.0, n_tokens=10),
            sample("b", BETTER, sum_logprob=-10.0, n_tokens=10),
            sample("c", BAD, sum_logprob=-1.0, n_tokens=10),
        ],
        [verdict("a", "accepted"), verdict("b", "accepted"), verdict("c", "wrong_answer")],
    )
    assert summary.counts["rows"] == 1
    assert rows[0]["messages"][-1] == {"role": "assistant", "content": BETTER}
    assert '"sample_id":"b"' in rows[0]["origin"]
    assert '"verdict_id":"v-b"' in rows[0]["origin"]


def test_an_answer_that_was_begun_and_stopped_in_its_block_ends_it(tmp_path: Path) -> None:
    stops = {"temperature": 0.5, "top_p": 1.0, "max_tokens": 9, "seed": 0, "engine": ""}
    begun = {"prefill": "```python\n", "sampler": stops | {"stop": ["\n```", "\nprint("]}}
    closed = sample("b", BETTER + "```", task_id="u", stop_reason=None, **begun)
    _, rows, _ = select(
        tmp_path,
        [sample("a", f"{GOOD}\n", stop_reason="\nprint(", **begun), closed],
        [verdict("a", "accepted"), verdict("b", "accepted", task_id="u")],
    )
    assert [row["messages"][-1]["content"] for row in rows] == [
        f"```python\n{GOOD}```",
        f"```python\n{BETTER}```",
    ]


def test_weak_cut_and_refused_answers_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no sample was accepted.*out.unsolved lists"):
        select(
            tmp_path,
            [sample("a", GOOD), sample("b", GOOD, finish_reason="length"), sample("c", BAD)],
            [
                verdict("a", "accepted", strength="weak"),
                verdict("b", "accepted"),
                verdict("c", "infra_error"),
            ],
        )


def test_one_file_keeps_the_unsolved_tasks_beside_it(tmp_path: Path) -> None:
    samples = [sample("a", GOOD), sample("b", BAD, task_id="hard")]
    verdicts = [verdict("a", "accepted"), verdict("b", "wrong_answer", task_id="hard")]
    write_parquet(tmp_path / "s.parquet", samples, schemas.SAMPLE)
    write_parquet(tmp_path / "v.parquet", verdicts, schemas.VERDICT)
    options = ["--samples", tmp_path / "s.parquet", "--verdicts", tmp_path / "v.parquet"]
    for ending in ("parquet", "jsonl"):
        out = tmp_path / f"fine.{ending}"
        done = CliRunner().invoke(app, ["select", *map(str, options), "--out", str(out)])
        assert done.exit_code == 0, done.output
        assert len(list(read_rows(out))) == 1
        (unsolved,) = read_rows(tmp_path / f"fine.unsolved.{ending}")
        assert unsolved[1]["task_id"] == "hard"
        again = CliRunner().invoke(app, ["select", *map(str, options), "--out", str(out)])
        assert isinstance(again.exception, RecipeError), "nothing is written over"
        assert "is there already" in str(again.exception)


def test_a_kill_before_the_one_file_is_written_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "s.parquet", [sample("a", GOOD)], schemas.SAMPLE)
    write_parquet(tmp_path / "v.parquet", [verdict("a", "accepted")], schemas.VERDICT)
    options = ["--samples", tmp_path / "s.parquet", "--verdicts", tmp_path / "v.parquet"]
    command = ["select", *map(str, options), "--out", str(tmp_path / "fine.parquet")]
    with monkeypatch.context() as patched:
        patched.setattr("align.alone._all_files", lambda *_: (_ for _ in ()).throw(KeyError))
        assert CliRunner().invoke(app, command).exit_code != 0
    assert not (tmp_path / "fine.parquet").exists()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert len(list(read_rows(tmp_path / "fine.parquet"))) == 1
    assert not list(tmp_path.glob(".*.work"))


def test_without_tests_the_judge_decides_and_no_task_is_forgotten(tmp_path: Path) -> None:
    samples = [
        sample("a", GOOD),
        sample("b", GOOD, task_id="open"),
        sample("c", BETTER, task_id="open"),
        sample("d", BAD, task_id="open", finish_reason="length"),
        sample("e", GOOD, task_id="unjudged"),
        sample("f", BAD, task_id="refused"),
        sample("g", BAD, task_id="refused"),
    ]
    judgements = [
        {"judgement_id": f"j-{name}", "sample_id": name, "status": status, "score": score}
        for name, status, score in (
            ("a", "ok", 0.1),
            ("b", "ok", 0.4),
            ("c", "ok", 0.9),
            ("d", "ok", 1.0),
            ("e", "parse_error", None),
            ("g", "ok", 1.0),
        )
    ]
    write_parquet(tmp_path / "judgements.parquet", judgements, schemas.JUDGEMENT)
    verdicts = [verdict("a", "accepted"), verdict("f", "wrong_answer", task_id="refused")]
    summary, rows, unsolved = select(tmp_path, samples, verdicts)
    assert (summary.counts["solved"], summary.counts["chosen_by_judge"]) == (1, 1)
    assert sorted(row["messages"][-1]["content"] for row in rows) == sorted([GOOD, BETTER])
    assert any('"judgement_id":"j-c"' in row["origin"] for row in rows)
    assert [row["task_id"] for row in unsolved] == ["refused", "unjudged"], "no verdict overruled"
    assert unsolved[1]["outcomes"] == '{"not_executed":1}'


def test_a_sample_without_its_columns_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"samples\.parquet row 0: finish_reason is missing"):
        select(tmp_path, [sample("a", GOOD, finish_reason=None)], [verdict("a", "accepted")])


def test_a_verdict_of_another_program_chooses_nothing(tmp_path: Path) -> None:
    ran = verdict("a", "accepted", code_sha=code_sha("def other(): pass"))
    with pytest.raises(InputError, match="of another program than the sample's code"):
        select(tmp_path, [sample("a", GOOD)], [ran])
    with pytest.raises(InputError, match=r"the sample is of task .*, its verdict of another"):
        select(tmp_path, [sample("a", GOOD)], [verdict("a", "accepted", task_id="another")])


def test_samples_from_elsewhere_need_only_what_tells_them_apart(tmp_path: Path) -> None:
    needed = ("sample_id", "task_id", "messages", "text", "finish_reason")
    row = {name: sample("a", GOOD)[name] for name in needed}
    (tmp_path / "samples.jsonl").write_text(json.dumps(row), encoding="utf-8")
    write_parquet(tmp_path / "verdicts.parquet", [verdict("a", "accepted")], schemas.VERDICT)
    inputs = {"samples": tmp_path / "samples.jsonl", "verdicts": tmp_path / "verdicts.parquet"}
    output = Output(tmp_path / "out", Identity("select", "config"))
    assert run(SelectSettings(), inputs, output, RecordingContext()).counts["rows"] == 1


def test_equal_code_counts_once(tmp_path: Path) -> None:
    samples = [sample(name, GOOD, sum_logprob=-1.0) for name in "abc"]
    _, rows, _ = select(tmp_path, samples, [verdict(name, "accepted") for name in "abc"], 3)
    assert len(rows) == 1


def test_tasks_that_nobody_solved_are_listed(tmp_path: Path) -> None:
    hard = [sample(name, BAD, task_id="hard", sum_logprob=-1.0) for name in "xy"]
    summary, _, unsolved = select(
        tmp_path,
        [sample("a", GOOD, sum_logprob=-1.0), *hard],
        [
            verdict("a", "accepted"),
            verdict("x", "wrong_answer", task_id="hard"),
            verdict("y", "time_limit", task_id="hard"),
        ],
    )
    assert summary.counts["unsolved"] == 1
    assert unsolved == [
        {"task_id": "hard", "samples": 2, "outcomes": '{"time_limit":1,"wrong_answer":1}'}
    ]
