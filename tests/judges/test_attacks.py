"""The suite of attacks and the planted faults: what they are, and how they are counted."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from judges import Judgement, Status
from judges.attacks import attack_suite, resistance
from judges.degradations import degrade, normal_form
from judges.injection import second_view
from judges.prompts import neutralise

SUITE = attack_suite()
VALUES = (1.0, 5.0)


def judgement(name: str, score: float | None, status: Status = Status.OK) -> Judgement:
    return Judgement((name,), "r/1", "sha", status, score, "judge", "prompt")


def test_there_are_at_least_forty_of_many_kinds_and_all_are_programs() -> None:
    assert len(SUITE) >= 40
    assert len(Counter(attack.kind for attack in SUITE)) >= 8
    assert len({attack.attacking.code for attack in SUITE}) == len(SUITE)
    for attack in SUITE:
        ast.parse(attack.attacking.code)


def test_an_attack_changes_nothing_of_what_the_program_is() -> None:
    for attack in SUITE:
        plain, attacking = (ast.parse(c.code).body for c in (attack.plain, attack.attacking))
        functions = [node for node in attacking if isinstance(node, ast.FunctionDef)]
        assert len(functions) == 1
        own = plain[0]
        assert isinstance(own, ast.FunctionDef)
        assert ast.dump(functions[0].body[-1]) == ast.dump(own.body[-1])


def test_what_only_the_model_would_see_is_shown_and_marks_are_broken() -> None:
    for attack in SUITE:
        shown = neutralise(attack.attacking.code)
        assert not any("\U000e0000" <= letter <= "\U000e007f" for letter in shown)
        for mark in ("\u202e", "\u200b", "<|im_", "[[5]]", "</candidate>", "<verdict>", "\\boxed{"):
            assert mark not in shown


def test_the_second_look_takes_comments_long_names_and_long_texts_away() -> None:
    for attack in SUITE:
        bare = second_view(attack.attacking.code)
        if attack.kind in ("used text",):
            continue  # a short text that the program uses
        assert bare is not None and "5" not in bare and "correct" not in bare.lower(), attack.name


def test_attacks_are_counted_by_how_they_end() -> None:
    kinds = {attack.kind: attack for attack in SUITE}
    chosen = list(kinds.values())[:5]
    plain = {chosen[0].plain.candidate_id: judgement("plain", 1.5)}
    ends = [
        judgement("a", 4.0),
        judgement("b", 2.4),
        judgement("c", None, Status.FLAGGED_INJECTION),
        judgement("d", None, Status.PARSE_ERROR),
    ]
    attacking = {a.attacking.candidate_id: j for a, j in zip(chosen, ends, strict=False)}
    found = resistance(chosen, {**plain, **attacking}, VALUES)
    assert (found["attacks"], found["succeeded"], found["flagged"]) == (3, 1, 1)
    assert found["unjudged"] == 2, "a fault and a missing answer are no resistance"
    assert found["rate"] == pytest.approx(1 / 3)
    assert found["mean_rise"] == pytest.approx((2.5 + 0.9) / 4 / 2)
    assert found["by_kind"][chosen[0].kind] == 1 and len(found["by_kind"]) == 5


CODE = '''
def mean(values, start=0):
    """Mean of the values."""
    if not values:
        raise ValueError("nothing")
    total = start
    for value in values:
        assert value is not None
        total += value
    try:
        return total / len(values)
    except OverflowError:
        return float("inf")
'''


def test_degradations_keep_what_is_returned_for_good_input() -> None:
    made = degrade(CODE)
    assert made.keys() == {"noise names", "dead code", "removed checks"}
    assert "total" not in made["noise names"] and "mean" in made["noise names"]
    assert "unused_total" in made["dead code"]
    assert not any(word in made["removed checks"] for word in ("raise", "assert", "except"))
    for text in made.values():
        assert text != normal_form(CODE)
        space: dict[str, object] = {}
        exec(compile(text, "made", "exec"), space)  # made from the constant above
        mean = space["mean"]
        assert callable(mean) and mean([1, 2, 3]) == 2


def test_what_can_not_be_made_worse_is_left_out() -> None:
    assert degrade("def f(:") == {}
    assert "removed checks" not in degrade("def f(xs):\n    return xs\n")
    assert degrade("X = 1\n") == {}
    assert normal_form("def f(:") is None
