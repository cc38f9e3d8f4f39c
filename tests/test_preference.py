"""Pairs: orientation, outcome classes, caps, history."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from align import rows as schemas
from align.artifacts import Identity, write_parquet
from align.errors import InputError
from align.preference import run, to_trl
from align.preference.rules import Candidate, exec_strict, judge_within_accepted
from align.settings import PairSettings
from align.stage import Output
from align.tables import read_rows
from tests.conftest import RecordingContext

GOOD = "def f(x):\n    return x + 1\n"
BETTER = "def f(number):\n    return number + 1\n"
BAD = "def f(x):\n    return x\n"
WORSE = "def f(x):\n    raise ValueError(x)\n"


def candidate(name: str, outcome: str, code: str | None, **more: Any) -> Candidate:
    values: dict[str, Any] = {
        "sample_id": name,
        "task_id": "t",
        "outcome": outcome,
        "strength": "strong",
        "passed": 1.0 if outcome == "accepted" else 0.5,
        "ended": True,
        "text": f"```python\n{code}```",
        "code": code,
        "n_tokens": 10,
        "verdict_id": f"v-{name}",
    }
    return Candidate(**{**values, **more})


def names(matches: Iterable[Any]) -> list[tuple[str, str]]:
    return [(match.chosen.sample_id, match.rejected.sample_id) for match in matches]


def test_what_passes_is_chosen_and_what_fails_is_rejected() -> None:
    found = list(
        exec_strict([candidate("a", "wrong_answer", BAD), candidate("b", "accepted", GOOD)], 0)
    )
    assert names(found) == [("b", "a")]
    assert found[0].margin == 0.5


def test_the_nearest_failing_sample_comes_first() -> None:
    found = exec_strict(
        [
            candidate("good", "accepted", GOOD),
            candidate("crash", "runtime_error", WORSE, passed=0.0),
            candidate("none", "no_code", None, passed=0.0),
            candidate("near", "wrong_answer", BAD, passed=0.9),
            candidate("far", "wrong_answer", BAD, passed=0.1),
        ],
        0,
    )
    assert [bad for _, bad in names(found)] == ["near", "far", "crash", "none"]


@pytest.mark.parametrize("outcome", ["infra_error", "flaky", "tampered", "invalid_task", "new_one"])
def test_outcomes_that_say_nothing_of_the_code_never_enter_a_pair(outcome: str) -> None:
    both = [candidate("a", "accepted", GOOD), candidate("b", outcome, BAD)]
    assert list(exec_strict(both, 0)) == []


@pytest.mark.parametrize(
    "change", [{"ended": False}, {"strength": "weak"}, {"outcome": "wrong_answer"}]
)
def test_a_chosen_one_passed_strong_tests_and_ended_by_itself(change: dict[str, Any]) -> None:
    chosen = candidate("a", **{"outcome": "accepted", "code": GOOD, **change})
    assert list(exec_strict([chosen, candidate("b", "wrong_answer", BAD)], 0)) == []


def test_a_truncated_answer_is_no_negative() -> None:
    cut = candidate("b", "wrong_answer", BAD, ended=False)
    assert list(exec_strict([candidate("a", "accepted", GOOD), cut], 0)) == []


def test_the_judge_orders_accepted_samples_only() -> None:
    low, high = (
        candidate("low", "accepted", GOOD, score=2.0),
        candidate("high", "accepted", BETTER, score=4.0),
    )
    fails = candidate("fails", "wrong_answer", BAD, score=5.0)
    unscored = candidate("unscored", "accepted", GOOD, score=None)
    found = list(judge_within_accepted([low, high, fails, unscored], 0.5))
    assert names(found) == [("high", "low")]
    assert found[0].margin == 2.0
    assert list(judge_within_accepted([low, high], 2.5)) == []


def test_equal_scores_make_no_pair_even_without_a_floor() -> None:
    both = [candidate("a", "accepted", GOOD, score=3.0), candidate("b", "accepted", BAD, score=3.0)]
    assert list(judge_within_accepted(both, 0.0)) == []


def sample(name: str, code: str, **more: Any) -> dict[str, Any]:
    row = dict.fromkeys(schemas.SAMPLE.names)
    row |= {
        "sample_id": name,
        "task_id": "t",
        "sample_index": 0,
        "messages": [{"role": "user", "content": "add one"}],
        "prefill": "",
        "text": code,
        "code": code,
        "finish_reason": "stop",
        "n_tokens": len(code),
    }
    return {**row, **more}


def verdict(name: str, outcome: str, **more: Any) -> dict[str, Any]:
    row = dict.fromkeys(schemas.VERDICT.names)
    row |= {"verdict_id": f"v-{name}", "sample_id": name, "task_id": "t", "outcome": outcome}
    row |= {"passed": 4 if outcome == "accepted" else 1, "total": 4, "strength": "strong"}
    return {**row, **more}


def build(
    folder: Path, samples: list[dict[str, Any]], verdicts: list[dict[str, Any]], **settings: Any
) -> tuple[Any, list[dict[str, Any]]]:
    folder.mkdir(exist_ok=True)
    write_parquet(folder / "samples.parquet", samples, schemas.SAMPLE)
    write_parquet(folder / "verdicts.parquet", verdicts, schemas.VERDICT)
    inputs = {name: folder / f"{name}.parquet" for name in ("samples", "verdicts")}
    output = Output(folder / "out", Identity("pair", "config"))
    summary = run(PairSettings(**settings), inputs, output, RecordingContext())
    return summary, [row for _, row in read_rows(folder / "out" / "pairs")]


def test_a_pair_keeps_its_history_and_trl_sees_three_columns(tmp_path: Path) -> None:
    summary, pairs = build(
        tmp_path,
        [sample("a", GOOD), sample("b", BAD)],
        [verdict("a", "accepted"), verdict("b", "wrong_answer")],
    )
    assert summary.counts["pairs"] == 1
    pair = pairs[0]
    assert (pair["chosen_sample_id"], pair["rejected_sample_id"]) == ("a", "b")
    assert (pair["chosen_verdict_id"], pair["rejected_verdict_id"]) == ("v-a", "v-b")
    assert pair["margin"] == 0.75
    assert pair["length_delta"] == len(GOOD) - len(BAD)
    assert to_trl(pairs) == [
        {
            "prompt": [{"role": "user", "content": "add one"}],
            "chosen": [{"role": "assistant", "content": GOOD}],
            "rejected": [{"role": "assistant", "content": BAD}],
        }
    ]


def test_equal_code_under_another_layout_makes_no_pair(tmp_path: Path) -> None:
    same = "# a comment\n" + GOOD
    with pytest.raises(InputError, match=r"no pair could be built.*'same code': 1"):
        build(
            tmp_path,
            [sample("a", GOOD), sample("b", same)],
            [verdict("a", "accepted"), verdict("b", "runtime_error")],
        )


def test_caps_hold_for_tasks_and_samples(tmp_path: Path) -> None:
    bad = [sample(f"b{i}", f"def f(x):\n    return x - {i}\n") for i in range(5)]
    verdicts = [verdict("a", "accepted"), *(verdict(f"b{i}", "wrong_answer") for i in range(5))]
    per_sample, _ = build(
        tmp_path / "s", [sample("a", GOOD), *bad], verdicts, per_task=10, per_sample=3
    )
    assert per_sample.counts["pairs"] == 3
    per_task, _ = build(
        tmp_path / "t", [sample("a", GOOD), *bad], verdicts, per_task=2, per_sample=9
    )
    assert per_task.counts["pairs"] == 2
    assert per_task.details["refused"] == {"enough pairs of the task": 3}


def test_samples_that_do_not_fit_are_explained(tmp_path: Path) -> None:
    twins = [sample("a", GOOD), sample("a", BAD)]
    with pytest.raises(InputError, match=r"row 1: sample a stands already at .*row 0"):
        build(tmp_path / "twins", twins, [verdict("a", "accepted")])
    with pytest.raises(InputError, match=r"row 0: finish_reason is missing"):
        lean = sample("a", GOOD, finish_reason=None)
        build(tmp_path / "lean", [lean], [verdict("a", "accepted")])
    with pytest.raises(InputError, match=r"none of the 1 samples .*'no_verdict': 1"):
        build(tmp_path / "strangers", [sample("a", GOOD)], [verdict("b", "accepted")])
    summary, _ = build(
        tmp_path / "some",
        [sample("a", GOOD), sample("b", BAD), sample("c", BAD), sample("d", GOOD, messages=None)],
        [verdict("a", "accepted"), verdict("b", "wrong_answer"), verdict("d", "accepted")],
    )
    assert (summary.counts["no_verdict"], summary.counts["raw_prompt"]) == (1, 1)


def test_a_verdict_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not belong together"):
        build(tmp_path, [sample("a", GOOD)], [verdict("a", "accepted", task_id="other")])
