"""What a benchmark is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from align.artifacts import Row, sha256_text, table_hash
from align.benchmark_files import SOURCES, benchmark_rows
from align.chat import Tokenizer
from align.errors import InputError
from align.sampling.samples import FindCode, Prompt

ItemT = TypeVar("ItemT")

#: Further shares of a benchmark's answers by name, from its samples and their verdicts by id.
Measure = Callable[[Sequence[Row], Mapping[str, Row]], dict[str, float]]


@dataclass(frozen=True)
class Problem:
    """One problem of a benchmark.

    Attributes:
        task: A row of the TASK table; its id begins with the benchmark's name.
        render: Makes the prompt for a policy's tokenizer.
        find_code: Finds the code in an answer, also in one that was kept from long ago.
        extractor: Name and version of that rule.
    """

    task: Row
    render: Callable[[Tokenizer], Prompt]
    find_code: FindCode
    extractor: str

    def prompt(self, tokenizer: Tokenizer, max_tokens: int | None = None) -> Prompt:
        """Returns the prompt with its rule of extraction."""
        return replace(
            self.render(tokenizer),
            find_code=self.find_code,
            extractor=self.extractor,
            max_tokens=max_tokens,
        )


@dataclass(frozen=True)
class Benchmark:
    """Problems, and what else can change a score on them.

    Attributes:
        name: As in the recipe.
        problems: In their order.
        prompt_form: Name and version of how a problem is put.
        data_sha: Hash of the problems' data.
        max_tokens: An upper bound for answers of its own; None takes the settings'.
        measure: Further shares of the answers; None where there are none.
    """

    name: str
    problems: tuple[Problem, ...]
    prompt_form: str
    data_sha: str
    max_tokens: int | None = None
    measure: Measure | None = None


@dataclass(frozen=True)
class Data:
    """Rows of a benchmark that were chosen, with their places, and the hash of all of them."""

    rows: tuple[tuple[str, Row], ...]
    sha: str
    licence: str


def load_data(
    name: str,
    columns: Sequence[str],
    count: int | None,
    id_column: str,
    keep: Callable[[Row], bool] = lambda row: True,
) -> Data:
    """Reads a known benchmark's rows, or a fixed slice of `count` of them.

    Args:
        name: One of `KNOWN_BENCHMARKS`.
        columns: Columns that every row must have.
        count: Rows that are taken; None: all.
        id_column: Names the problem.
        keep: Says which rows are problems of the benchmark.

    Raises:
        InputError: The data is not there, lacks a column, or names two problems alike.
    """
    rows = [(place, row) for place, row in benchmark_rows(name) if keep(row)]
    seen: set[str] = set()
    for place, row in rows:
        if missing := [column for column in columns if row.get(column) is None]:
            raise InputError(f"{place}: {', '.join(missing)} is missing: this is not {name}")
        if (key := str(row[id_column])) in seen:
            raise InputError(f"{place}: a second problem {key}")
        seen.add(key)
    if not rows:
        raise InputError(f"the data of {name} holds no problem")
    chosen = fixed_slice(rows, count, [str(row[id_column]) for _, row in rows])
    return Data(tuple(chosen), table_hash(row for _, row in rows), SOURCES[name].licence)


def fixed_slice(items: Sequence[ItemT], count: int | None, ids: Sequence[str]) -> list[ItemT]:
    """Returns `count` of the items in their order, always the same; larger slices hold smaller."""
    if count is None or count >= len(items):
        return list(items)
    ranked = sorted(range(len(items)), key=lambda i: sha256_text(f"slice/1:{ids[i]}"))
    return [items[i] for i in sorted(ranked[:count])]
