"""What a benchmark is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from align.artifacts import Row, sha256_text
from align.chat import Tokenizer
from align.sampling.samples import Prompt

ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class Problem:
    """One problem of a benchmark.

    Attributes:
        task: A row of the TASK table; its id begins with the benchmark's name.
        render: Makes the prompt for a policy's tokenizer.
    """

    task: Row
    render: Callable[[Tokenizer], Prompt]


@dataclass(frozen=True)
class Benchmark:
    """Problems, and what else can change a score on them.

    Attributes:
        name: As in the recipe.
        problems: In their order.
        prompt_form: Name and version of how a problem is put.
        data_sha: Hash of the problems' data.
        max_tokens: An upper bound for answers of its own; None takes the settings'.
        measure: Returns further shares of the answers by name, from rows of the SAMPLE table.
    """

    name: str
    problems: tuple[Problem, ...]
    prompt_form: str
    data_sha: str
    max_tokens: int | None = None
    measure: Callable[[Sequence[Row]], dict[str, float]] | None = None


def fixed_slice(items: Sequence[ItemT], count: int | None, ids: Sequence[str]) -> list[ItemT]:
    """Returns `count` of the items in their order, always the same; larger slices hold smaller."""
    if count is None or count >= len(items):
        return list(items)
    ranked = sorted(range(len(items)), key=lambda i: sha256_text(f"slice/1:{ids[i]}"))
    return [items[i] for i in sorted(ranked[:count])]
