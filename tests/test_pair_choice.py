"""Which matches become pairs: negatives, caps, likeness, lengths, turns, general pairs, floors."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from align import rows as schemas
from align.artifacts import write_json, write_parquet
from align.errors import InputError
from align.preference.candidates import Candidate
from align.preference.choosing import Chosen, choose
from align.preference.yields import Tally
from align.settings import PairSettings
from tests.conftest import RecordingContext
from tests.pair_rows import (
    BAD,
    BETTER,
    GOOD,
    WORSE,
    build,
    candidate,
    judgement,
    sample,
    verdict,
)


def picked(
    pool: list[Candidate], refused: Counter[str] | None = None, **settings: Any
) -> list[Chosen]:
    groups: dict[str, list[Candidate]] = {}
    for each in pool:
        groups.setdefault(each.task_id, []).append(each)
    tally = Tally()
    found = choose(groups, PairSettings.model_validate(settings), 0, tally, lambda _: "python")
    if refused is not None:
        refused.update(tally.refused)
    return found


def ids(found: list[Chosen]) -> list[tuple[str, str]]:
    return [(each.match.chosen.sample_id, each.match.rejected.sample_id) for each in found]


def failing() -> list[Candidate]:
    return [
        candidate("none", "no_code", None, passed=0),
        candidate("crash", "runtime_error", WORSE, passed=0),
        candidate("near", "wrong_answer", "def f(x):\n    return x + 2\n", passed=9),
        candidate("unlike", "wrong_answer", "f = abs\n", passed=9),
        candidate("far", "wrong_answer", BAD, passed=1),
    ]


def test_negatives_come_by_outcome_then_tests_then_likeness() -> None:
    pool = [candidate("good", "accepted"), *failing()]
    caps = {"per_task": 9, "per_sample": 9}
    nearest = picked(pool, negatives={"nearest": 1.0, "random": 0.0, "worst": 0.0}, **caps)
    order = ["near", "unlike", "far", "crash", "none"]
    assert [bad for _, bad in ids(nearest)] == order
    worst = picked(pool, negatives={"nearest": 0.0, "random": 0.0, "worst": 1.0}, **caps)
    assert [bad for _, bad in ids(worst)] == order[::-1]
    assert {each.negative for each in worst} == {"worst"}


def test_shares_of_negatives_come_out() -> None:
    pool = [
        each
        for task in range(300)
        for each in (
            candidate(f"{task}-good", "accepted", task_id=f"t{task}"),
            candidate(f"{task}-near", "wrong_answer", BAD, task_id=f"t{task}", passed=9),
            candidate(f"{task}-crash", "runtime_error", WORSE, task_id=f"t{task}", passed=0),
        )
    ]
    shares = {"nearest": 0.7, "random": 0.0, "worst": 0.3}
    kinds = Counter(each.negative for each in picked(pool, per_task=1, negatives=shares))
    assert kinds.keys() == {"nearest", "worst"}
    assert 0.6 < kinds["nearest"] / 300 < 0.8


@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_a_shuffled_input_gives_the_same_pairs(chance: random.Random, judged: int) -> None:
    pool = [candidate("good", "accepted"), candidate("better", "accepted", BETTER), *failing()]
    pool.append(candidate("again", "accepted", "# the same\n" + GOOD))
    pool += [
        candidate("o", "wrong_answer", BAD, task_id="u"),
        candidate("p", "accepted", task_id="u"),
    ]
    pool = [
        Candidate(**{**vars(each), "score": float(number) if number < judged else None})
        for number, each in enumerate(pool)
    ]
    shuffled = list(pool)
    chance.shuffle(shuffled)
    first, second = Counter[str](), Counter[str]()
    assert picked(pool, first, max_pairs=5) == picked(shuffled, second, max_pairs=5)
    assert first == second


def test_the_order_of_the_tables_changes_nothing(tmp_path: Path) -> None:
    samples = [sample(f"g{i}", f"def f(x):\n    return x + {i}\n") for i in range(4)]
    samples += [sample(f"b{i}", f"def f(x):\n    return x * {i}\n") for i in range(4)]
    verdicts = [
        verdict(row["sample_id"], "accepted" if row["sample_id"][0] == "g" else "wrong_answer")
        for row in samples
    ]
    one, pairs = build(tmp_path / "one", samples, verdicts)
    two, others = build(tmp_path / "two", samples[::-1], verdicts[::-1])
    assert one.content_sha == two.content_sha
    assert pairs == others


def test_another_seed_draws_other_negatives() -> None:
    pool = [
        candidate("good", "accepted"),
        *(candidate(f"b{i}", "wrong_answer", f"f = {i}\n") for i in range(8)),
    ]
    settings = PairSettings.model_validate(
        {"per_task": 1, "negatives": {"nearest": 0, "random": 1, "worst": 0}}
    )
    drawn = {
        ids(choose({"t": pool}, settings, seed, Tally(), lambda _: None))[0] for seed in range(20)
    }
    assert len(drawn) > 3


def test_caps_hold_for_tasks_and_samples() -> None:
    bad = [candidate(f"b{i}", "wrong_answer", f"def f(x):\n    return x - {i}\n") for i in range(5)]
    pool = [candidate("a", "accepted"), *bad]
    refused: Counter[str] = Counter()
    assert len(picked(pool, refused, per_task=10, per_sample=3)) == 3
    assert refused == {"sample used enough": 2}
    refused.clear()
    assert len(picked(pool, refused, per_task=2, per_sample=9)) == 2
    assert refused == {"enough pairs of the task": 3}


def test_equal_code_under_another_layout_makes_no_pair(tmp_path: Path) -> None:
    same = '# a comment\ndef f(x):\n    """Adds."""\n    return (x + 1)\n'
    samples = [sample("a", GOOD), sample("b", same), sample("c", BETTER), sample("d", BAD)]
    outcomes = ["accepted", "runtime_error", "accepted", "wrong_answer"]
    verdicts = [verdict(name, each) for name, each in zip("abcd", outcomes, strict=True)]
    with pytest.raises(InputError, match=r'built.*program passed and failed": 2'):
        build(tmp_path / "two", samples[:2], verdicts[:2])
    _, pairs = build(tmp_path / "four", samples, verdicts)
    sides = [(pair["chosen_sample_id"], pair["rejected_sample_id"]) for pair in pairs]
    assert sides == [("c", "d")], "a program of two verdicts is on no side"


def test_samples_that_say_the_same_count_once() -> None:
    documented = GOOD.replace("\n    return", '\n    """Adds one."""\n    return')
    pool = [candidate("a", "accepted"), candidate("b", "accepted", documented)]
    pool += [candidate("c", "wrong_answer", BAD), candidate("d", "wrong_answer", "# no\n" + BAD)]
    refused: Counter[str] = Counter()
    assert ids(picked(pool, refused)) == [("a", "c")]
    assert refused == {"sample repeats another": 2}


def test_how_many_samples_agree_counts_also_where_they_are_equal() -> None:
    # Nine times one program, against two programs that share no test with it: 3 times the root of 9
    # is more than 3 times the root of 2. One of the nine stands in the pair.
    good, bad = (True,) * 3 + (False,) * 3, (False,) * 3 + (True,) * 3
    pool = [candidate(f"r{i}", "wrong_answer", GOOD, tests=good) for i in range(9)]
    pool += [
        candidate(f"w{i}", "wrong_answer", f"def f(x):\n    return {i}\n", tests=bad)
        for i in range(2)
    ]
    for rule in ("agreement", "code_test_rank"):
        refused: Counter[str] = Counter()
        assert ids(picked(pool, refused, rules=[rule])) == [("r0", "w0"), ("r0", "w1")]
        assert refused == {"sample repeats another": 8}


def test_no_pair_says_the_opposite_of_another() -> None:
    slow = candidate("slow", "accepted", score=5.0, runs=(300.0, 310.0))
    fast = candidate("fast", "accepted", BETTER, score=1.0, runs=(100.0, 100.0))
    rules = ["judge_within_accepted", "efficiency"]
    for order, kept in ((rules, ("slow", "fast")), (rules[::-1], ("fast", "slow"))):
        refused: Counter[str] = Counter()
        assert ids(picked([slow, fast], refused, rules=order)) == [kept]
        assert refused == {"opposite of another pair": 1}


def test_an_attempt_that_is_repaired_stands_beside_its_like() -> None:
    pool = [
        candidate("b1", "wrong_answer", BAD),
        candidate("b2", "wrong_answer", BAD),
        candidate("fixed", "accepted", repairs="b2"),
    ]
    assert ids(picked(pool, rules=["debug"])) == [("fixed", "b2")]


def test_samples_that_no_rule_may_take_are_counted() -> None:
    pool = [
        candidate("weak", "accepted", strength="weak"),
        candidate("cut", "wrong_answer", BAD, finish_reason="length"),
        candidate("once", "accepted", BETTER, runs=(3.0,)),
        candidate("fault", "infra_error", WORSE),
    ]
    refused: Counter[str] = Counter()
    assert picked(pool, refused, min_runs=2) == []
    assert refused == {
        "sample's tests were weak": 1,
        "sample was cut": 1,
        "sample ran too few times": 1,
    }


def test_nearly_equal_programs_make_no_pair() -> None:
    long = "".join(f"x{i} = {i}\n" for i in range(60))
    pool = [candidate("a", "accepted", long), candidate("b", "wrong_answer", long + "y = 1\n")]
    refused: Counter[str] = Counter()
    assert picked(pool, refused) == []
    assert refused == {"too similar": 1}
    assert ids(picked(pool, max_similarity=0.999)) == [("a", "b")]


@pytest.mark.parametrize(
    ("tokens", "made"), [(5, True), (4, False), (20, True), (21, False), (0, False)]
)
def test_lengths_stay_in_their_band(tokens: int, made: bool) -> None:
    refused: Counter[str] = Counter()
    pool = [candidate("a", "accepted"), candidate("b", "wrong_answer", BAD, n_tokens=tokens)]
    assert bool(picked(pool, refused)) == made
    assert refused == ({} if made else {"lengths too different": 1})


def test_under_a_limit_languages_and_tasks_take_turns() -> None:
    pool = []
    for task, count in (("py1", 3), ("py2", 3), ("py3", 1), ("go1", 2)):
        pool.append(candidate(f"{task}-good", "accepted", task_id=task))
        pool += [
            candidate(f"{task}-{i}", "wrong_answer", f"f = {i}\n", task_id=task)
            for i in range(count)
        ]
    groups: dict[str, list[Candidate]] = {}
    for each in pool:
        groups.setdefault(each.task_id, []).append(each)
    tally = Tally()
    settings = PairSettings(max_pairs=5, per_sample=4)
    found = choose(groups, settings, 0, tally, lambda task: task[:2])
    tasks = Counter(each.match.chosen.task_id for each in found)
    assert tasks == {"py1": 1, "py2": 1, "py3": 1, "go1": 2}
    assert tally.refused["enough pairs in all"] == 4


def test_an_earlier_rule_takes_its_pairs_first() -> None:
    pool = [
        candidate("a", "accepted", score=5.0),
        candidate("b", "accepted", BETTER, score=1.0),
        candidate("c", "wrong_answer", BAD),
    ]
    for rules in (
        ["exec_strict", "judge_within_accepted"],
        ["judge_within_accepted", "exec_strict"],
    ):
        found = picked(pool, rules=rules, per_task=1)
        assert [each.match.rule for each in found] == rules[:1]


def judged(folder: Path, scores: dict[str, float | None], **settings: Any) -> tuple[Any, Any]:
    samples = [
        sample("a", GOOD),
        sample("b", BETTER),
        sample("c", BAD),
        *(sample(name, code, task_id="open") for name, code in (("x", GOOD), ("y", WORSE))),
    ]
    verdicts = [verdict("a", "accepted"), verdict("b", "accepted"), verdict("c", "wrong_answer")]
    judgements = [
        judgement(name, score, task_id="open" if name in "xy" else "t")
        for name, score in scores.items()
    ]
    rules = ["exec_strict", "judge_within_accepted", "judge_open"]
    summary, pairs = build(folder, samples, verdicts, judgements, rules=rules, **settings)
    made: dict[str, set[tuple[str, str]]] = {}
    for pair in pairs:
        sides = (pair["chosen_sample_id"], pair["rejected_sample_id"])
        made.setdefault(pair["rule"], set()).add(sides)
    return summary, made


def test_a_judge_changes_the_pairs_it_makes_and_none_made_by_execution(tmp_path: Path) -> None:
    _, one = judged(tmp_path / "one", {"a": 5.0, "b": 1.0, "c": 3.0, "x": 5.0, "y": 1.0})
    _, two = judged(tmp_path / "two", {"a": 1.0, "b": 5.0, "c": 5.0, "x": 1.0, "y": 5.0})
    summary, none = judged(tmp_path / "none", {"a": None, "b": None, "x": None, "y": None})
    assert one["judge_within_accepted"] == {("a", "b")}
    assert two["judge_within_accepted"] == {("b", "a")}
    assert one["judge_open"] == {("x", "y")}
    assert two["judge_open"] == {("y", "x")}
    assert one["exec_strict"] == two["exec_strict"] == {("a", "c"), ("b", "c")}
    assert none == {"exec_strict": {("a", "c"), ("b", "c")}}
    why = summary.details["without_pairs"]
    assert why["judge_within_accepted"] == "no task has two accepted answers that a judge scored"
    summary, _ = judged(tmp_path / "near", {"a": 3.0, "b": 3.25, "x": 3.0, "y": 4.0})
    assert summary.details["without_pairs"] == {
        "judge_within_accepted": "tasks with two accepted answers that a judge scored: 1; in none "
        "are scores 0.5 apart"
    }


@pytest.mark.parametrize(("auroc", "made"), [({"value": 0.7}, 1), (0.5, 0), (None, 0)])
def test_a_judge_below_its_floor_makes_no_pair(tmp_path: Path, auroc: Any, made: int) -> None:
    folder = tmp_path / "judge.r1"
    table = folder / "judgements"
    table.mkdir(parents=True)
    rows = [judgement("a", 5.0), judgement("b", 1.0)]
    write_parquet(table / "shard-00000.parquet", rows, schemas.JUDGEMENT)
    write_json(folder / "manifest.json", {"details": {"auroc": auroc, "scores": [5.0, 1.0]}})
    context = RecordingContext()
    summary, _ = build(
        tmp_path / "pair",
        [sample("a", GOOD), sample("b", BETTER), sample("c", BAD)],
        [verdict("a", "accepted"), verdict("b", "accepted"), verdict("c", "wrong_answer")],
        context=context,
        tables={"judgements": table},
        judge_within_accepted={"floors": {"auroc": 0.6}},
    )
    assert summary.counts.get("judge_within_accepted", 0) == made
    assert summary.counts["exec_strict"] == 2
    assert bool(context.warnings) != bool(made)
    why = summary.details["without_pairs"].get("judge_within_accepted", "")
    assert ("its floor is 0.6" in why) != bool(made)


def test_general_pairs_are_a_share_of_all(tmp_path: Path) -> None:
    general = [{"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": "no"} for i in range(20)]
    general += [general[0], {"prompt": "q", "chosen": "same", "rejected": "same"}]
    table = tmp_path / "general.jsonl"
    table.write_text("\n".join(map(json.dumps, general)), encoding="utf-8")
    samples, verdicts = [], []
    for task in range(6):
        for name, code, outcome in (("a", GOOD, "accepted"), ("b", BAD, "wrong_answer")):
            samples.append(sample(f"{name}{task}", code, task_id=f"t{task}"))
            verdicts.append(verdict(f"{name}{task}", outcome, task_id=f"t{task}"))
    summary, pairs = build(
        tmp_path / "o", samples, verdicts, tables={"common": table}, common_share=0.25
    )
    assert summary.details["by_rule"] == {"exec_strict": 6, "common": 2}
    mixed = [pair for pair in pairs if pair["rule"] == "common"]
    assert {pair["rejected"][0]["content"] for pair in mixed} == {"no"}
    assert all(pair["prompt"][0]["role"] == "user" for pair in mixed)
    assert summary.details["refused"]["common pair of equal answers"] == 1
    assert summary.details["refused"]["common pair repeats another"] == 1


def test_a_general_row_that_is_no_pair_is_named(tmp_path: Path) -> None:
    table = tmp_path / "general.jsonl"
    table.write_text(json.dumps({"prompt": "q", "chosen": "a"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"general\.jsonl:1: rejected is no text"):
        build(
            tmp_path / "o",
            [sample("a", GOOD), sample("b", BAD)],
            [verdict("a", "accepted"), verdict("b", "wrong_answer")],
            tables={"common": table},
            common_share=0.5,
        )
