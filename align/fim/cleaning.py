"""Leaves out files that repeat an earlier one, and rows that overlap a benchmark.

Both are found by the code of the data stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from align.data.decontaminate import BenchmarkIndex
from align.data.duplicates import band_keys, shingles, similarity
from align.data.sides import Side, tokens_of, words_of
from align.settings import FimSettings

_BANDS = 8
# A file is one text where the data stage has two: prompt and answer are the same set of shingles,
# so that a band of 3 hashes a side holds the same 3. Two files of similarity 0.8 share one of 8
# bands with a probability of 1 - (1 - 0.8 ** 3) ** 8 = 0.997.
_ONE_SIDE = shingles([])


class Cleaner:
    """Looks at the files in their order, each once.

    Args:
        settings: Benchmarks and thresholds.
        text: Returns an earlier file by its number.
        tables: Where the benchmarks are that are not known by their name.

    Raises:
        InputError: A benchmark is not there.
    """

    def __init__(
        self,
        settings: FimSettings,
        text: Callable[[int], str],
        tables: Mapping[str, Path],
    ) -> None:
        self._threshold = settings.near_duplicate
        self._text = text
        self._index = BenchmarkIndex(settings.ngram, settings.lcs_words, settings.lcs_share)
        for name in settings.decontaminate:
            self._index.add_benchmark(name, tables.get(name))
        self._bands: list[dict[int, int]] = [{} for _ in range(_BANDS)]

    def overlap(self, text: str) -> str | None:
        """Returns what a row's text shares with a benchmark, or None."""
        hits = self._index.find([Side("row", text, words_of(text))])
        return str(hits[0]) if hits else None

    def repeats(self, number: int, text: str) -> str | None:
        """Returns how a file repeats an earlier one, or None.

        Args:
            number: The file's; `text` is asked for an earlier one by it.
            text: The file.
        """
        if self._threshold is None:
            return None
        own = shingles(tokens_of(text))
        keys = band_keys(own, _ONE_SIDE, _BANDS).tolist()
        tried = set()
        for band, key in zip(self._bands, keys, strict=True):
            other = band.setdefault(key, number)
            if other == number or other in tried:
                continue
            tried.add(other)
            alike = similarity(own, shingles(tokens_of(self._text(other))))
            if alike >= self._threshold:
                return f"similarity {alike:.2f} with an earlier file"
        return None
