"""Single-line infilling made from HumanEval's canonical solutions, as raw FIM token ids.

From each solution one line is taken out, with its line break; blank lines and comments never. What
the model writes is put in as it is, so that an answer which does not stop in time fails: the rate
of answers that ended by themselves stands beside the score.
"""

from __future__ import annotations

import random

from align.artifacts import Row, sha256_file, sha256_text
from align.chat import Tokenizer
from align.evaluation.benchmarks.base import Benchmark, Problem, fixed_slice
from align.evaluation.benchmarks.humaneval import data_file, read_problems, task_row
from align.fim.formats import encode_fim_prompt
from align.sampling.samples import Prompt

NAME = "humaneval_infilling"
PROMPT_FORM = "fim-single-line/1"
_EXTRACTOR = "as-produced/1"
_MAX_TOKENS = 128


def load(count: int | None) -> Benchmark:
    """Returns the infilling benchmark, one line a problem, or a fixed slice of it.

    Raises:
        InputError: HumanEval's data is not there or not as it should be.
    """
    path = data_file()
    rows = read_problems(path)
    chosen = fixed_slice(rows, count, [row["task_id"] for row in rows])
    return Benchmark(
        NAME,
        tuple(_problem(row, f"{path} {row['task_id']}") for row in chosen),
        PROMPT_FORM,
        sha256_file(path),
        _MAX_TOKENS,
    )


def cut_line(task_id: str, prompt: str, solution: str) -> tuple[str, str, str]:
    """Takes one line out of a solution, always the same one.

    Returns:
        Prefix, middle and suffix, which together are prompt and solution.
    """
    lines = solution.splitlines(keepends=True)
    eligible = [
        index for index, line in enumerate(lines) if line.strip() and line.strip()[0] != "#"
    ]
    index = random.Random(int(sha256_text(f"line/1:{task_id}")[:16], 16)).choice(eligible)
    return prompt + "".join(lines[:index]), lines[index], "".join(lines[index + 1 :])


def _problem(row: Row, place: str) -> Problem:
    task = task_row(NAME, row)
    prefix, _, suffix = cut_line(row["task_id"], row["prompt"], row["canonical_solution"])

    def find_code(text: str) -> str:
        return prefix + text + suffix

    def render(tokenizer: Tokenizer) -> Prompt:
        ids = tuple(encode_fim_prompt(tokenizer, prefix, suffix))
        return Prompt(task["task_id"], place, ids, None, find_code, extractor=_EXTRACTOR)

    return Problem(task, render)
