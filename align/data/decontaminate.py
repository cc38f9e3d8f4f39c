"""Finds what overlaps a benchmark: word n-grams, common subsequences, functions of the same head.

The n-grams are those of the Qwen2.5-Coder technical report, section 5 (10 words). The subsequences
are those of the Qwen2.5 technical report (13 tokens and 0.6 of the shorter text), with words as
tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import LCSseq

from align.benchmark_files import benchmark_texts
from align.data.definitions import Definition, definitions, plain_name, words_of_name
from align.data.sides import Side, words_of
from align.questions import without_shown_test
from align.tables import read_rows

_UNKNOWN = "\0"
_FIRST_SURROGATE, _SURROGATES = 0xD800, 0x800
# `is_prime` or `add` stand in any program, and count with their parameters only.
_TELLING_WORDS = 3
_ASKED = ("messages", "prompt", "text", "instruction", "question")  # columns of what is asked
_FEW_WORDS = 3  # `Sort a list.` of a benchmark is a copy, one word is not


@dataclass(frozen=True)
class Hit:
    """One overlap of a row with a problem.

    Attributes:
        benchmark: As the recipe names it.
        problem: Its id there.
        rule: `ngram`, `lcs` or `entry_point`.
        side: `prompt` or `answer` of the row.
        evidence: What was found.
    """

    benchmark: str
    problem: str
    rule: str
    side: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.benchmark} {self.problem}, in the {self.side}: {self.evidence}"


class _Grams:
    """Problems by the n-grams of their texts.

    Every word that they know is one character, any other word is `_UNKNOWN`: a text becomes a short
    string and an n-gram a slice of it.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._letters: dict[str, str] = {}
        self._problems: dict[str, list[int]] = {}

    def add(self, words: Sequence[str], problem: int) -> str:
        """Takes in a problem's text, and returns its letters."""
        letters = "".join(map(self._letter, words))
        for start in range(len(letters) - self._size + 1):
            known = self._problems.setdefault(letters[start : start + self._size], [])
            if problem not in known:
                known.append(problem)
        return letters

    def _letter(self, word: str) -> str:
        letter = self._letters.get(word)
        if letter is None:
            code = len(self._letters) + 1
            letter = chr(code if code < _FIRST_SURROGATE else code + _SURROGATES)
            self._letters[word] = letter
        return letter

    def known_letters(self, words: Sequence[str]) -> str:
        """Returns the letters of the words that some problem has, in their order."""
        return "".join([self._letters[word] for word in words if word in self._letters])

    def find(self, words: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yields (problem, shared n-gram)."""
        letters = "".join([self._letters.get(word, _UNKNOWN) for word in words])
        start = 0
        for run in letters.split(_UNKNOWN):
            for first in range(len(run) - self._size + 1):
                for problem in self._problems.get(run[first : first + self._size], ()):
                    yield problem, " ".join(words[start + first : start + first + self._size])
            start += len(run) + 1


class BenchmarkIndex:
    """The n-grams, texts and function heads of benchmarks.

    N-grams are taken twice: of words without punctuation, which finds a copy in another layout, and
    of what stands between blanks, as Qwen's own script does, which sees operators too.

    Args:
        ngram: Words in a row that count as contamination.
        lcs_words: Words of a common subsequence that count; None leaves the rule out.
        lcs_share: Share of the shorter text's words that the subsequence must reach as well.
    """

    def __init__(self, ngram: int, lcs_words: int | None = None, lcs_share: float = 0.6) -> None:
        self._ngram = ngram
        self._lcs_words = lcs_words
        self._lcs_share = lcs_share
        self._problems: list[tuple[str, str]] = []
        self._words = _Grams(ngram)
        self._pieces = _Grams(ngram)
        self._heads: dict[str, list[tuple[int, Definition]]] = defaultdict(list)
        self._short: dict[tuple[str, ...], int] = {}
        self._texts: list[str] = []
        self._text_problems: list[int] = []

    def add_benchmark(self, name: str, table: Path | None = None) -> None:
        """Takes in every problem of a benchmark: a table, or one that is known by its name.

        Raises:
            InputError: The benchmark is not there.
        """
        if table is None:
            for problem, row in benchmark_texts(name):
                self.add_problem(name, problem, row)
            return
        for place, row in read_rows(table):
            self.add_problem(name, str(row.get("task_id", place)), row)

    def add_problem(self, benchmark: str, problem: str, row: Mapping[str, Any]) -> None:
        """Takes in all texts of one problem's row; columns named `test...` for n-grams only."""
        number = len(self._problems)
        self._problems.append((benchmark, problem))
        tests = " ".join(_texts({key: row[key] for key in row if key.startswith("test")}))
        texts = list(_texts({key: row[key] for key in row if not key.startswith("test")}))
        for text in [*texts, tests]:
            self._pieces.add(text.lower().split(), number)
            letters = self._words.add(words_of(text), number)
            if text is not tests and self._lcs_words and len(letters) >= self._lcs_words:
                self._texts.append(letters)
                self._text_problems.append(number)
        self._add_heads(number, row.get("entry_point"), texts, tests)
        for text in _texts([row.get(key) for key in _ASKED]):
            words = tuple(words_of(without_shown_test(text)))
            if _FEW_WORDS <= len(words) < self._ngram:
                self._short.setdefault(words, number)

    def _add_heads(self, number: int, entry: Any, texts: list[str], tests: str) -> None:
        defined = {head for text in texts for head in definitions(text)}
        if isinstance(entry, str):
            wanted = {plain_name(entry)}
            if not any(plain_name(head.name) in wanted for head in defined):
                defined.add(Definition(entry, ()))
        else:  # a benchmark that names none: what its tests call
            wanted = {plain_name(word) for word in words_of(tests)}
        for head in defined:
            if plain_name(head.name) in wanted:
                self._heads[plain_name(head.name)].append((number, head))

    def find(self, sides: Iterable[Side]) -> list[Hit]:
        """Returns the overlaps of a row, one for each problem, rule and side."""
        hits: list[Hit] = []
        for side in sides:
            found = {**self._same_grams(side), **self._common(side), **self._same_heads(side)}
            hits += [
                Hit(*self._problems[number], rule, side.name, evidence)
                for (rule, number), evidence in found.items()
            ]
        return hits

    def _same_grams(self, side: Side) -> dict[tuple[str, int], str]:
        found: dict[tuple[str, int], str] = {}
        pieces = side.text.lower().split()
        for grams, words in ((self._words, side.words), (self._pieces, pieces)):
            for number, shared in grams.find(words):
                found.setdefault(("ngram", number), f"{self._ngram} words: {shared}")
        for part in without_shown_test(side.text).split("\n\n") if self._short else ():
            words = tuple(words_of(part))
            if (short := self._short.get(words)) is not None:
                evidence = f"the same {len(words)} words: {' '.join(words)}"
                found.setdefault(("ngram", short), evidence)
        return found

    def _common(self, side: Side) -> dict[tuple[str, int], str]:
        if not self._lcs_words or len(side.words) < self._lcs_words or not self._texts:
            return {}
        # Words that no benchmark has can't be part of a common subsequence.
        letters = self._words.known_letters(side.words)
        if len(letters) < self._lcs_words:
            return {}
        scores = process.cdist(
            [letters],
            self._texts,
            scorer=LCSseq.similarity,
            score_cutoff=self._lcs_words,
            dtype=np.int32,
        )[0]
        found: dict[tuple[str, int], str] = {}
        for place in np.flatnonzero(scores):
            common = int(scores[place])
            shorter = min(len(self._texts[place]), len(side.words))
            if common >= self._lcs_share * shorter:
                evidence = f"{common} words of {shorter} in the same order"
                found.setdefault(("lcs", self._text_problems[place]), evidence)
        return found

    def _same_heads(self, side: Side) -> dict[tuple[str, int], str]:
        if not any(plain_name(word) in self._heads for word in side.words):
            return {}
        found: dict[tuple[str, int], str] = {}
        for head in definitions(side.text):
            for number, known in self._heads.get(plain_name(head.name), ()):
                same = head.parameters == known.parameters
                if same or words_of_name(known.name) >= _TELLING_WORDS:
                    found.setdefault(("entry_point", number), f"defines {head}")
        return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
