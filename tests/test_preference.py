"""Pairs: orientation, outcome classes, what may be chosen or rejected, caps, history."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from align import rows as schemas
from align.artifacts import Identity, write_parquet
from align.errors import InputError
from align.preference import run, to_trl
from align.preference.candidates import Candidate
from align.preference.classes import NOT_EXECUTED, OutcomeClass, class_of
from align.preference.rules import RULES, Match, debug, efficiency, exec_margin, exec_strict
from align.settings import PairSettings
from align.stage import Output
from align.tables import read_rows
from sandbox.grade import code_sha
from sandbox.verdict import Outcome
from tests.conftest import RecordingContext
from tests.pair_rows import BAD, BETTER, GOOD, WORSE, build, candidate, judgement, sample, verdict
from tests.tiny import build_tiny_model

DEFAULT = PairSettings()
FAULTS = ["infra_error", "flaky", "tampered", "invalid_task", "new_one"]


def names(matches: Iterable[Match]) -> list[tuple[str, str]]:
    return [(match.chosen.sample_id, match.rejected.sample_id) for match in matches]


def test_a_judge_s_floors_stay_whatever_else_is_set() -> None:
    given = PairSettings.model_validate(
        {"judge_open": {"min_margin": 0.4}, "judge_within_accepted": {"min_margin": 1.5}}
    )
    assert (given.judge_open.min_margin, given.judge_open.floors) == (0.4, {"auroc": 0.6})
    assert given.judge_within_accepted.floors == {"planted": 0.6}
    floors = PairSettings.model_validate({"judge_open": {"floors": {"auroc": 0.7}}})
    assert floors.judge_open.min_margin == 1.0


def test_a_begun_answer_that_was_stopped_ends_its_block_on_both_sides(tmp_path: Path) -> None:
    drawn = {"temperature": 0.5, "top_p": 1.0, "max_tokens": 9, "seed": 0, "engine": ""}
    begun = {
        "prefill": "```python\n",
        "stop_reason": "\n```",
        "sampler": drawn | {"stop": ["\n```"]},
    }
    rows = [sample("a", GOOD.rstrip(), **begun), sample("b", BAD.rstrip(), **begun)]
    verdicts = [verdict("a", "accepted"), verdict("b", "wrong_answer")]
    _, (pair,) = build(tmp_path, rows, verdicts)
    assert pair["chosen"][0]["content"] == f"```python\n{GOOD}```"
    assert pair["rejected"][0]["content"] == f"```python\n{BAD}```"


def test_every_outcome_of_the_sandbox_has_a_class_or_enters_no_pair() -> None:
    assert {outcome for outcome in Outcome if class_of(outcome) is None} == {
        Outcome.TAMPERED,
        Outcome.FLAKY,
        Outcome.INVALID_TASK,
        Outcome.INFRA_ERROR,
    }
    assert class_of(NOT_EXECUTED) is None
    assert class_of("accepted") is OutcomeClass.ACCEPTED
    order = ["accepted", "wrong_answer", "runtime_error", "time_limit", "no_code"]
    classes = [class_of(name) or 0 for name in order]
    assert classes == sorted(set(classes))


def test_what_passes_is_chosen_and_what_fails_is_rejected() -> None:
    found = exec_strict([candidate("a", "wrong_answer", BAD), candidate("b", "accepted")], DEFAULT)
    assert names(found) == [("b", "a")]
    assert found[0].margin == 0.5


@pytest.mark.parametrize("outcome", FAULTS)
@pytest.mark.parametrize("rule", RULES)
def test_outcomes_that_say_nothing_of_the_code_never_enter_a_pair(rule: str, outcome: str) -> None:
    settings = PairSettings(weak=True, truncated_negatives=True)
    timed = {"runs": (90.0, 95.0), "score": 2.0}
    sound = candidate("a", "accepted", score=5.0, runs=(10.0, 10.0), repairs="b")
    both = [sound, candidate("b", outcome, BAD, **timed)]
    both.append(candidate("c", outcome, WORSE, score=9.0, repairs="b", runs=(1.0, 1.0), passed=10))
    assert RULES[rule](both, settings) == []


@pytest.mark.parametrize(
    "change", [{"finish_reason": "length"}, {"strength": "weak"}, {"outcome": "wrong_answer"}]
)
@pytest.mark.parametrize("rule", ["exec_strict", "judge_within_accepted", "efficiency", "debug"])
def test_a_chosen_one_passed_strong_tests_and_ended_by_itself(
    rule: str, change: dict[str, Any]
) -> None:
    good = {"score": 5.0, "runs": (1.0, 1.0), "repairs": "b"}
    rest = [
        candidate("b", "wrong_answer", BAD),
        candidate("c", "accepted", BETTER, score=1.0, runs=(90.0, 95.0)),
    ]
    sound = candidate("a", "accepted", **good)
    assert ("a", "b") in names(RULES[rule]([sound, *rest], DEFAULT)) or ("a", "c") in names(
        RULES[rule]([sound, *rest], DEFAULT)
    )
    damaged = candidate("a", **{"outcome": "accepted", **good, **change})
    found = names(RULES[rule]([damaged, *rest], DEFAULT))
    assert [pair for pair in found if pair[0] == "a"] == []


def test_weak_verdicts_make_pairs_only_where_they_are_allowed() -> None:
    both = [
        candidate("a", "accepted", strength="weak"),
        candidate("b", "wrong_answer", BAD, strength="weak"),
    ]
    assert exec_strict(both, DEFAULT) == []
    assert names(exec_strict(both, PairSettings(weak=True))) == [("a", "b")]


def test_a_chosen_one_was_run_as_often_as_the_recipe_asks() -> None:
    twice = PairSettings(min_runs=2)
    bad = candidate("b", "wrong_answer", BAD)
    assert exec_strict([candidate("a", "accepted"), bad], twice) == []
    assert exec_strict([candidate("a", "accepted", runs=(3.0,)), bad], twice) == []
    checked = candidate("a", "accepted", runs=(3.0, 4.0))
    assert names(exec_strict([checked, bad], twice)) == [("a", "b")]


@pytest.mark.parametrize("rule", ["exec_margin", "code_test_rank", "agreement"])
def test_a_rule_of_single_tests_asks_for_as_many_runs(rule: str) -> None:
    bad = candidate("b", "wrong_answer", BAD, passed=1, tests=(True,) + (False,) * 9)
    for runs, made in (((3.0,), []), ((3.0, 4.0), [("a", "b")])):
        pool = [candidate("a", "accepted", runs=runs), bad]
        assert names(RULES[rule](pool, PairSettings(min_runs=2))) == made


def test_a_truncated_answer_is_a_negative_only_where_it_is_allowed() -> None:
    cut = candidate("b", "no_code", None, finish_reason="length")
    both = [candidate("a", "accepted"), cut]
    assert exec_strict(both, DEFAULT) == []
    assert names(exec_strict(both, PairSettings(truncated_negatives=True))) == [("a", "b")]


def test_a_margin_of_tests_keeps_to_its_thresholds() -> None:
    def share(name: str, passed: int) -> Candidate:
        return candidate(name, "accepted" if passed == 10 else "wrong_answer", passed=passed)

    pool = [share("ten", 10), share("eight", 8), share("seven", 7), share("four", 4)]
    pool.append(share("none", 0))
    assert set(names(exec_margin(pool, DEFAULT))) == {("ten", "four"), ("eight", "four")}
    strict = PairSettings.model_validate({"exec_margin": {"min_chosen": 1.0, "min_gap": 0.3}})
    assert set(names(exec_margin(pool, strict))) == {("ten", "four"), ("ten", "seven")}


def test_the_judge_orders_accepted_samples_only() -> None:
    low = candidate("low", "accepted", score=2.0)
    high = candidate("high", "accepted", BETTER, score=4.0)
    others = [
        candidate("fails", "wrong_answer", BAD, score=5.0),
        candidate("unscored", "accepted", score=None),
        candidate("open", NOT_EXECUTED, score=5.0),
    ]
    found = RULES["judge_within_accepted"]([low, high, *others], DEFAULT)
    assert names(found) == [("high", "low")]
    assert found[0].margin == 2.0
    wide = PairSettings.model_validate({"judge_within_accepted": {"min_margin": 2.5}})
    assert RULES["judge_within_accepted"]([low, high], wide) == []


def test_of_open_tasks_the_judge_orders_what_was_not_executed() -> None:
    pool = [
        candidate("low", NOT_EXECUTED, score=2.0),
        candidate("high", NOT_EXECUTED, score=4.0),
        candidate("cut", NOT_EXECUTED, score=5.0, finish_reason="length"),
        candidate("ran", "accepted", score=1.0),
    ]
    assert names(RULES["judge_open"](pool, DEFAULT)) == [("high", "low")]


@pytest.mark.parametrize(
    ("rule", "outcome"), [("judge_within_accepted", "accepted"), ("judge_open", NOT_EXECUTED)]
)
def test_equal_scores_make_no_pair_even_without_a_floor(rule: str, outcome: str) -> None:
    both = [candidate("a", outcome, score=3.0), candidate("b", outcome, BAD, score=3.0)]
    assert RULES[rule](both, PairSettings.model_validate({rule: {"min_margin": 0.0}})) == []


def test_the_faster_of_two_accepted_programs_is_chosen_where_no_run_says_otherwise() -> None:
    fast = candidate("fast", "accepted", runs=(10.0, 12.0))
    slow = candidate("slow", "accepted", BETTER, runs=(90.0, 60.0))
    found = efficiency([slow, fast], DEFAULT)
    assert names(found) == [("fast", "slow")]
    assert found[0].margin == 5.0
    unsteady = candidate("slow", "accepted", BETTER, runs=(90.0, 17.0))
    assert efficiency([unsteady, fast], DEFAULT) == []
    once = candidate("slow", "accepted", BETTER, runs=(90.0,))
    assert efficiency([once, fast], DEFAULT) == []
    short = candidate("short", "accepted", runs=(1.0, 1.0))
    assert efficiency([short, candidate("s", "accepted", runs=(9.0, 9.0))], DEFAULT) == []


def test_a_repaired_version_stands_against_the_attempt_that_it_repairs() -> None:
    pool = [
        candidate("first", "wrong_answer", BAD),
        candidate("other", "wrong_answer", WORSE),
        candidate("fixed", "accepted", repairs="first"),
        candidate("broken", "runtime_error", WORSE, repairs="first"),
        candidate("of_no_one", "accepted", BETTER),
    ]
    assert names(debug(pool, DEFAULT)) == [("fixed", "first")]


@pytest.mark.parametrize("rule", ["code_test_rank", "agreement"])
def test_ranks_prefer_what_good_tests_accept(rule: str) -> None:
    # Three samples agree on three tests; one passes two others, which nothing else supports.
    agreeing = (True, True, True, False, False)
    pool = [candidate(f"a{i}", "wrong_answer", f"x = {i}", tests=agreeing) for i in range(3)]
    pool.append(candidate("lone", "wrong_answer", BAD, tests=(False, False, False, True, True)))
    pool.append(candidate("none", "no_code", None, tests=()))
    found = names(RULES[rule](pool, DEFAULT))
    assert {chosen for chosen, rejected in found if rejected == "lone"} == {"a0", "a1", "a2"}
    assert not {chosen for chosen, _ in found} & {"none"}
    assert not {(a, b) for a, b in found if a[0] == b[0] == "a"}, "ties make no pair"


FAILED = ["wrong_answer", "runtime_error", "time_limit", "memory_limit"]
ROWS = st.lists(
    st.tuples(st.lists(st.booleans(), min_size=10, max_size=10), st.sampled_from(FAILED)),
    min_size=2,
    max_size=6,
)


@given(ROWS)
@example([([True] * 8 + [False] * 2, "time_limit"), ([True] * 4 + [False] * 6, "wrong_answer")])
def test_a_rule_by_execution_never_prefers_a_worse_class(
    rows: list[tuple[list[bool], str]],
) -> None:
    pool = [
        candidate(
            f"c{i}",
            "accepted" if all(row) else failed,
            f"x = {i}",
            passed=sum(row),
            total=10,
            tests=tuple(row),
        )
        for i, (row, failed) in enumerate(rows)
    ]
    for rule in ("exec_strict", "exec_margin"):
        for match in RULES[rule](pool, DEFAULT):
            chosen, rejected = match.chosen.outcome_class, match.rejected.outcome_class
            assert chosen is not None and rejected is not None and chosen <= rejected
            assert match.chosen.passed > match.rejected.passed
            assert match.margin > 0


def test_a_pair_keeps_its_history_and_trl_sees_three_columns(tmp_path: Path) -> None:
    summary, pairs = build(
        tmp_path,
        [sample("a", GOOD, sum_logprob=-3.5), sample("b", BAD)],
        [verdict("a", "accepted"), verdict("b", "wrong_answer")],
    )
    assert summary.counts["pairs"] == 1
    pair = pairs[0]
    assert (pair["chosen_sample_id"], pair["rejected_sample_id"]) == ("a", "b")
    assert (pair["chosen_verdict_id"], pair["rejected_verdict_id"]) == ("v-a", "v-b")
    assert (pair["chosen_outcome"], pair["rejected_outcome"]) == ("accepted", "wrong_answer")
    assert (pair["chosen_passed"], pair["rejected_passed"], pair["rejected_total"]) == (4, 1, 4)
    assert (pair["chosen_tokens"], pair["chosen_sum_logprob"]) == (len(GOOD), -3.5)
    assert pair["rejected_finish_reason"] == "stop"
    assert pair["margin"] == 0.75
    assert pair["length_delta"] == len(GOOD) - len(BAD)
    assert to_trl(pairs) == [
        {
            "prompt": [{"role": "user", "content": "add one"}],
            "chosen": [{"role": "assistant", "content": GOOD}],
            "rejected": [{"role": "assistant", "content": BAD}],
        }
    ]


@pytest.mark.slow
def test_stock_trl_trains_on_the_pairs(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from align.showing import load_tokenizer

    _, pairs = build(
        tmp_path / "pairs",
        [sample("a", GOOD), sample("b", BAD)],
        [verdict("a", "accepted"), verdict("b", "wrong_answer")],
    )
    model = build_tiny_model(tmp_path / "tiny")
    trainer = DPOTrainer(
        model=str(model),
        args=DPOConfig(
            output_dir=str(tmp_path / "out"), max_steps=1, report_to=[], use_cpu=True, bf16=False
        ),
        train_dataset=Dataset.from_list(to_trl(pairs)),
        processing_class=load_tokenizer(model),
    )
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] == pytest.approx(0.693, abs=0.01)


def test_a_repair_is_paired_under_the_prompt_of_the_attempt(tmp_path: Path) -> None:
    asked_again = [{"role": "user", "content": "mend it"}]
    rows = [sample("first", BAD), sample("fixed", GOOD, messages=asked_again)]
    (tmp_path / "in").mkdir()
    table = tmp_path / "in" / "samples.jsonl"
    lines = [
        json.dumps({**row, "repairs": name})
        for row, name in zip(rows, (None, "first"), strict=True)
    ]
    table.write_text("\n".join(lines), encoding="utf-8")
    write_parquet(
        tmp_path / "in" / "verdicts.parquet",
        [verdict("first", "wrong_answer"), verdict("fixed", "accepted")],
        schemas.VERDICT,
    )
    inputs = {"samples": table, "verdicts": tmp_path / "in" / "verdicts.parquet"}
    output = Output(tmp_path / "out", Identity("pair", "config"))
    with pytest.raises(InputError, match=r"'different prompts': 1"):
        run(PairSettings(rules=["exec_strict"]), inputs, output, RecordingContext())
    output = Output(tmp_path / "out2", Identity("pair", "config"))
    run(PairSettings(rules=["debug"]), inputs, output, RecordingContext())
    (pair,) = [row for _, row in read_rows(tmp_path / "out2" / "pairs")]
    assert pair["prompt"] == [{"role": "user", "content": "add one"}]
    assert pair["chosen_sample_id"] == "fixed"


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


def test_two_verdicts_of_one_sample_are_refused(tmp_path: Path) -> None:
    twice = [verdict("a", "accepted"), verdict("a", "wrong_answer"), verdict("b", "accepted")]
    with pytest.raises(InputError, match=r"row 1: sample a stands already at .*row 0"):
        build(tmp_path, [sample("a", GOOD), sample("b", BAD)], twice)


def test_a_verdict_of_another_program_is_refused(tmp_path: Path) -> None:
    both = [sample("a", GOOD), sample("b", BAD)]
    shas = [code_sha(GOOD), code_sha(BAD)]
    rows = [
        verdict("a", "accepted", code_sha=shas[0]),
        verdict("b", "wrong_answer", code_sha=shas[1]),
    ]
    assert len(build(tmp_path / "own", both, rows)[1]) == 1
    rows[1]["code_sha"] = shas[0]
    with pytest.raises(InputError, match=r"row 1: the verdict is of another program"):
        build(tmp_path / "other", both, rows)


@pytest.mark.parametrize("tested", [False, True])
def test_a_judge_alone_orders_only_answers_to_tasks_without_tests(
    tmp_path: Path, tested: bool
) -> None:
    table = tmp_path / "tasks.jsonl"
    tests = {"kind": "asserts", "setup": "", "asserts": ["assert f(1) == 2"]}
    task = {"task_id": "t", "messages": [{"role": "user", "content": "add one"}]}
    rows = [task | ({"tests": tests} if tested else {})]
    rows.append(task | {"task_id": "u", "tests": tests})
    table.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    samples = [sample("a", GOOD), sample("b", BAD)]
    samples += [sample(name, code, task_id="u") for name, code in (("c", GOOD), ("d", BAD))]
    summary, pairs = build(
        tmp_path / "o",
        samples,
        [verdict("c", "accepted", task_id="u"), verdict("d", "wrong_answer", task_id="u")],
        [judgement("a", 5.0), judgement("b", 1.0)],
        tables={"tasks": table},
        rules=["exec_strict", "judge_open"],
    )
    assert Counter(pair["rule"] for pair in pairs) == {"exec_strict": 1} | (
        {} if tested else {"judge_open": 1}
    )
    assert summary.counts.get("no_verdict", 0) == (2 if tested else 0)


def test_what_tampered_is_kept_aside(tmp_path: Path) -> None:
    summary, pairs = build(
        tmp_path,
        [sample("a", GOOD), sample("b", BAD), sample("c", WORSE)],
        [
            verdict("a", "accepted"),
            verdict("b", "wrong_answer"),
            verdict("c", "tampered", detail="forged frame"),
        ],
    )
    assert [(p["chosen_sample_id"], p["rejected_sample_id"]) for p in pairs] == [("a", "b")]
    (kept,) = [row for _, row in read_rows(tmp_path / "out" / "tampered")]
    assert (kept["sample_id"], kept["code"], kept["detail"]) == ("c", WORSE, "forged frame")
    assert summary.counts["tampered"] == 1


def test_the_yield_is_reported(tmp_path: Path) -> None:
    samples, verdicts = [], []
    for task, outcomes in {
        "all": ["accepted", "accepted"],
        "mixed": ["accepted", "wrong_answer"],
        "none": ["wrong_answer", "runtime_error"],
    }.items():
        for number, outcome in enumerate(outcomes):
            name = f"{task}{number}"
            samples.append(sample(name, f"x = {number}\n", task_id=task))
            verdicts.append(verdict(name, outcome, task_id=task))
    summary, _ = build(tmp_path, samples, verdicts)
    assert summary.details["prompts"] == {"all accepted": 1, "mixed": 1, "none accepted": 1}
    assert summary.details["by_rule"] == {"exec_strict": 1}
    assert summary.details["outcomes"] == {"accepted": 3, "wrong_answer": 2, "runtime_error": 1}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| exec_strict | 1 |" in card
    assert "| accepted | wrong_answer | 1 |" in card
    assert "| none accepted | 1 |" in card


def test_each_pair_gives_a_row_to_train_a_control_on(tmp_path: Path) -> None:
    _, pairs = build(
        tmp_path,
        [sample("a", GOOD), sample("b", BAD), sample("c", WORSE)],
        [verdict("a", "accepted"), verdict("b", "wrong_answer"), verdict("c", "runtime_error")],
    )
    rows = [row for _, row in read_rows(tmp_path / "out" / "chosen")]
    assert len(pairs) == 2
    assert [row["messages"] for row in rows] == [p["prompt"] + p["chosen"] for p in pairs]
    assert len({row["row_id"] for row in rows}) == 2
