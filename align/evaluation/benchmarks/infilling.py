"""HumanEval with gaps, put as raw FIM token ids.

`humaneval_infilling` takes one line with its line break out of each canonical solution; it needs
nothing but HumanEval. The others are the published sets (Bavarian et al., arXiv:2207.14255). What
the model writes is put in as it is, so that an answer which does not stop in time fails; what
happens at the gap's boundaries is measured beside the score.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial

from align.artifacts import Row, sha256_text
from align.chat import Tokenizer
from align.evaluation.benchmarks.base import Benchmark, Problem, load_data
from align.evaluation.benchmarks.boundaries import Gap, measure
from align.evaluation.benchmarks.humaneval import COLUMNS, task_row
from align.fim.formats import encode_fim_prompt
from align.sampling.forms import Form
from align.sampling.samples import Prompt

NAME = "humaneval_infilling"
_FORM, _PUBLISHED_FORM = "fim-single-line/1", "fim-raw/1"
_EXTRACTOR = "as-produced/1"
_MAX_TOKENS = 128
#: Their gaps may hold most of a function.
_LONG = (f"{NAME}_multi_line", f"{NAME}_random_span")
_MAX_LONG_TOKENS = 512


def load(name: str, count: int | None, form: Form) -> Benchmark:
    """Returns an infilling benchmark, or a fixed slice of it; gaps are put in one way only.

    Raises:
        InputError: The benchmark's data is not there or not as it should be.
    """
    own = name == NAME
    data = load_data(name, COLUMNS if own else (*COLUMNS, "suffix"), count, "task_id")
    gaps = {f"{name}:{row['task_id']}": _gap(name, row) for _, row in data.rows}
    return Benchmark(
        name,
        tuple(_problem(name, row, gaps, place) for place, row in data.rows),
        _FORM if own else _PUBLISHED_FORM,
        data.sha,
        _MAX_LONG_TOKENS if name.startswith(_LONG) else _MAX_TOKENS,
        lambda samples, verdicts: measure(samples, gaps),
    )


def _gap(name: str, row: Row) -> Gap:
    if name == NAME:
        parts = cut_line(row["task_id"], row["prompt"], row["canonical_solution"])
        return Gap(*parts, one_line=True)
    one_line = name.endswith("single_line")
    return Gap(row["prompt"], row["canonical_solution"], row["suffix"], one_line)


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


def _problem(name: str, row: Row, gaps: Mapping[str, Gap], place: str) -> Problem:
    task = task_row(name, row)
    gap = gaps[task["task_id"]]
    task["reference"] = gap.prefix + gap.middle + gap.suffix
    render = partial(_render, task["task_id"], place, gap)
    return Problem(task, render, lambda text: gap.prefix + text + gap.suffix, _EXTRACTOR)


def _render(task_id: str, place: str, gap: Gap, tokenizer: Tokenizer) -> Prompt:
    ids = tuple(encode_fim_prompt(tokenizer, gap.prefix, gap.suffix))
    return Prompt(task_id, place, ids, None, find_code=lambda text: text)
