"""HumanEval with gaps, put as raw FIM token ids.

`humaneval_infilling` takes one line with its line break out of each canonical solution; it needs
nothing but HumanEval. `humaneval_infilling_single_line` and `_random_span_light` are the published
sets (Bavarian et al., arXiv:2207.14255) below `$ALIGN_DATA`. What the model writes is put in as it
is, so that an answer which does not stop in time fails; what happens at the gap's boundaries is
measured beside the score.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from align.artifacts import Row, sha256_file, sha256_text
from align.chat import Tokenizer
from align.errors import InputError
from align.evaluation.benchmarks.base import Benchmark, Problem, fixed_slice
from align.evaluation.benchmarks.boundaries import Gap, measure
from align.evaluation.benchmarks.humaneval import data_file, read_problems, task_row
from align.fim.formats import encode_fim_prompt
from align.sampling.samples import Prompt
from align.tables import resolve_table

NAME = "humaneval_infilling"
PROMPT_FORM = "fim-single-line/1"
#: Published sets by their names here: file, name of the prompt form.
PUBLISHED: Mapping[str, tuple[str, str]] = {
    f"{NAME}_single_line": ("HumanEval-SingleLineInfilling.jsonl.gz", "fim-raw/1"),
    f"{NAME}_random_span_light": ("HumanEval-RandomSpanInfillingLight.jsonl.gz", "fim-raw/1"),
}
NAMES = (NAME, *PUBLISHED)
_EXTRACTOR = "as-produced/1"
_MAX_TOKENS = 128


def load(name: str, count: int | None) -> Benchmark:
    """Returns an infilling benchmark, or a fixed slice of it.

    Args:
        name: One of `NAMES`.
        count: Problems of the slice.

    Raises:
        InputError: The benchmark's data is not there or not as it should be.
    """
    path = data_file() if name == NAME else published(name)
    rows = read_problems(path)
    chosen = fixed_slice(rows, count, [row["task_id"] for row in rows])
    gaps = {f"{name}:{row['task_id']}": gap for row, gap in _gaps(name, chosen)}
    return Benchmark(
        name,
        tuple(_problem(name, row, gaps, f"{path} {row['task_id']}") for row in chosen),
        PROMPT_FORM if name == NAME else PUBLISHED[name][1],
        sha256_file(path),
        _MAX_TOKENS,
        partial(measure, gaps=gaps),
    )


def published(name: str) -> Path:
    """Returns the file of a published set.

    Raises:
        InputError: It is not there.
    """
    file = f"{NAME}/{PUBLISHED[name][0]}"
    path = resolve_table(file)
    if path is None:
        raise InputError(
            f"eval.benchmarks: the data of {name} is not there: put {PUBLISHED[name][0]} of "
            f"openai/human-eval-infilling at $ALIGN_DATA/{file}; {NAME} needs none"
        )
    return path


def _gaps(name: str, rows: list[Row]) -> Iterator[tuple[Row, Gap]]:
    for row in rows:
        if name == NAME:
            parts = cut_line(row["task_id"], row["prompt"], row["canonical_solution"])
            yield row, Gap(*parts, one_line=True)
        elif not isinstance(row.get("suffix"), str):
            raise InputError(f"{row['task_id']}: suffix is missing: this is not {name}")
        else:
            one_line = name.endswith("single_line")
            yield row, Gap(row["prompt"], row["canonical_solution"], row["suffix"], one_line)


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

    def find_code(text: str) -> str:
        return gap.prefix + text + gap.suffix

    def render(tokenizer: Tokenizer) -> Prompt:
        ids = tuple(encode_fim_prompt(tokenizer, gap.prefix, gap.suffix))
        return Prompt(task["task_id"], place, ids, None, find_code, extractor=_EXTRACTOR)

    return Problem(task, render)
