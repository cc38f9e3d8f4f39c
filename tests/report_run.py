"""A small run folder of test data, written with the functions that real stages use."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pyarrow as pa

from align import rows as schemas
from align.artifacts import Identity, TableWriter, write_json
from align.manifest import begin, finish
from align.stage import Summary

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
    seed: int = 7,
    **inputs: str,
) -> None:
    made = identity(instance, **inputs)
    outside = {name: "" for name, sha in inputs.items() if not sha.startswith("content-of-")}
    begin(folder / instance, made, outside)
    finish(
        folder / instance,
        made,
        Summary(f"content-of-{instance}", counts or {}, details or {}),
        settings=settings or {"note": f"test settings of {instance}"},
        seed=seed,
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


def make_repeated(folder: Path, checkpoint: str, seed: int = 7, answers: int = 4) -> None:
    """Writes eval.repeated.CHECKPOINT of HumanEval: of each problem's answers, half are right."""
    problems = [f"humaneval:HumanEval/{number}" for number in range(PROBLEMS)]
    plain = {
        "n": PROBLEMS,
        "passed": PROBLEMS * answers // 2,
        "pass@1": 0.5,
        "interval": [0.45, 0.55],
        "stop_rate": 0.75,
        "mean_tokens": 90.0,
        "outcomes": {"accepted": PROBLEMS * answers // 2},
        "settings": {
            "samples": answers,
            "temperature": 0.2,
            "model": checkpoint,
            "weights_sha": checkpoint,
        },
        "problems": dict.fromkeys(problems, "accepted"),
        "passes": {problem: [answers // 2, answers] for problem in problems},
    }
    name = f"eval.repeated.{checkpoint}"
    write_json(folder / name / "result.json", {"benchmarks": {"humaneval": plain}})
    stage(folder, name, seed=seed)


def make_evaluation(folder: Path, checkpoint: str, seed: int = 7) -> None:
    """Writes eval.CHECKPOINT; another seed solves other problems, and some more."""
    benchmarks, rows = {}, []
    more = seed - 7 if checkpoint != "start" else 0
    for name, solved, stops in (
        ("humaneval", SOLVED[checkpoint] + more, 0.925),
        ("humaneval_infilling", SOLVED[checkpoint] - 12, 0.31),
    ):
        problems = {
            f"{name}:HumanEval/{number}": "accepted"
            if (number * 7 + len(checkpoint) + more) % PROBLEMS < solved
            else "wrong_answer"
            for number in range(PROBLEMS)
        }
        rows += [
            verdict(f"e{checkpoint}-{task_id}", task_id, outcome)
            for task_id, outcome in problems.items()
        ]
        share = solved / PROBLEMS
        spread = 1.9 * math.sqrt(share * (1 - share) / PROBLEMS)
        benchmarks[name] = {
            "n": PROBLEMS,
            "passed": solved,
            "pass@1": share,
            "interval": [share - spread, share + spread],
            "stop_rate": stops,
            "mean_tokens": 100.0 + 10 * len(checkpoint),
            "outcomes": {"accepted": solved, "wrong_answer": PROBLEMS - solved},
            "settings": {"max_tokens": 400, "model": checkpoint, "weights_sha": checkpoint},
            "problems": problems,
        }
    benchmarks["humaneval_infilling"]["boundaries"] = {
        "exact_match": 0.25,
        "fence_rate": 0.125,
        "prose_rate": 0.0625,
        "suffix_bleed_rate": 0.375,
        "runs_on_rate": 0.6875,
    }
    benchmarks["humaneval_infilling"]["boundary_intervals"] = {"runs_on_rate": [0.5625, 0.796875]}
    table(folder / f"eval.{checkpoint}/verdicts", schemas.VERDICT, "verdict_id", rows)
    write_json(folder / f"eval.{checkpoint}/result.json", {"benchmarks": benchmarks})
    stage(
        folder,
        f"eval.{checkpoint}",
        counts={"humaneval_n": PROBLEMS, "humaneval_passed": SOLVED[checkpoint]},
        seconds=55.0,
        seed=seed,
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
        details={
            "auroc": auroc,
            "statuses": {"ok": 35, "parse_error": 5},
            "kin": "the policy was made from the judge, tiny/model",
        },
        settings={"model": None, "rubric": "code_quality"},
        seconds=48.0,
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
            "lengths": {"mean_delta": -12.0, "longer": 1, "shorter": 5, "equal": 0, "p": 0.21875},
            "without_pairs": {"judge_open": "no task has two not executed answers"},
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
        details={
            "sources": [
                {
                    "source": f"rows.jsonl {HOSTILE}",
                    "layouts": {"alpaca": 6},
                    "read": 38,
                    "dropped": {"contaminated": 1, "bad_row": 30},
                    "kept": 7,
                    "weight": 1.0,
                    "used": 7,
                }
            ],
            "languages": {"python": 5, "no code": 2},
            "skipped": skipped,
            "decontaminated_against": ["humaneval"],
        },
        settings={"ngram": 10, "rows": [{"path": "rows.jsonl"}]},
        seconds=1.2,
    )
    fim = [{"row_id": f"f-{n}", "kind": "fim", "licence": "BSD-3-Clause"} for n in range(3)]
    table(folder / "fim/rows", schemas.TRAIN_ROW, "row_id", fim)
    stage(folder, "fim", counts={"rows": 3, "files": 2}, details={"mean_middle_chars": 87.25})
    stage(folder, "judge.fine", counts={"judged": 0}, settings={"model": None})
    table(folder / "select.fine/rows", schemas.TRAIN_ROW, "row_id", rows[:2])
    stage(folder, "select.fine", counts={"rows": 2, "tasks": 15, "solved": 12, "unsolved": 3})


def make_full_run(folder: Path) -> Path:
    """Writes every stage of a run that is done, all of it test data."""
    chance = random.Random(1)
    make_data(folder)
    make_training(folder, chance)
    make_round(folder, "fine", chance)
    make_round(folder, "r1", chance)
    make_judge_and_pairs(folder, chance)
    for checkpoint in SOLVED:
        make_evaluation(folder, checkpoint)
    stage(folder, "export", counts={"stages": 5, "checked_tokens": 64}, seconds=21.0)
    made = {path.name: f"content-of-{path.name}" for path in folder.iterdir()}
    stage(folder, "report", settings={"title": "Report of test data"}, seconds=1.0, **made)
    log = [
        {"stage": "sft.coarse", "event": "warning", "message": f"2 rows are too long {HOSTILE}"},
        {"stage": "sft.coarse", "event": "done"},
    ]
    (folder / "log.jsonl").write_text(
        "".join(json.dumps(x) + "\n" for x in log) + '{"torn', "utf-8"
    )
    return folder


def make_partial_run(folder: Path) -> Path:
    """Writes a run whose first training stage failed."""
    make_data(folder)
    make_evaluation(folder, "start")
    begin(folder / "sft.coarse", identity("sft.coarse"))
    line = {"stage": "sft.coarse", "event": "failed", "error": "TrainingError: the loss is nan"}
    (folder / "log.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    return folder
