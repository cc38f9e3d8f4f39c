"""Finds rows that say again what an earlier row says: exactly, or nearly.

Nearly means that prompt and answer both are as similar as the threshold asks: two answers to one
question are no duplicates, nor are two questions with one short answer. MinHash (Broder 1997) with
banding finds the candidates, and exact Jaccard similarity of trigrams of words and marks decides.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from align.data.sides import chat_sides, tokens_of
from align.data.spool import Spool

Uint64s = NDArray[np.uint64]

_GRAM = 3  # words or marks
_BANDS = 32
# Hash values of prompt and of answer in a band: two sides of similarity 0.8 share one of the bands
# with a probability of 1 - (1 - 0.8 ** 6) ** 32 = 0.9999.
_ROWS = 3
_LAST = 8  # rows of one key that a row is compared with, beside the first
_BUFFERED = 1024  # rows
_SHIFT = np.uint64(32)
_generator = np.random.default_rng(1997)


def _odd_numbers(*shape: int) -> Uint64s:
    return _generator.integers(1 << 63, size=shape, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


_GRAM_FACTORS = _odd_numbers(_GRAM)
_HASH_FACTORS = _odd_numbers(_BANDS * _ROWS)
_HASH_OFFSETS = _odd_numbers(_BANDS * _ROWS)
_BAND_FACTORS = _odd_numbers(2, _ROWS)


def shingles(words: Sequence[str]) -> Uint64s:
    """Returns the hashes of a text's trigrams, each once; a shorter text is one shingle."""
    code_of = {word: zlib.crc32(word.encode()) for word in set(words)}
    codes = np.fromiter(map(code_of.__getitem__, words), dtype=np.uint64, count=len(words))
    if len(codes) < _GRAM:
        codes = np.concatenate([codes, np.zeros(_GRAM - len(codes), dtype=np.uint64)])
    count = len(codes) - _GRAM + 1
    grams = np.zeros(count, dtype=np.uint64)
    for offset, factor in enumerate(_GRAM_FACTORS):
        grams += codes[offset : offset + count] * factor
    grams ^= grams >> np.uint64(29)
    grams.sort()  # faster than np.unique, which hashes
    first = np.ones(count, dtype=bool)
    np.not_equal(grams[1:], grams[:-1], out=first[1:])
    unique: Uint64s = grams[first]
    return unique


def similarity(left: Uint64s, right: Uint64s) -> float:
    """Returns the Jaccard similarity of two sets of shingles."""
    common = len(np.intersect1d(left, right, assume_unique=True))
    return common / (len(left) + len(right) - common)


def band_keys(prompt: Uint64s, answer: Uint64s, bands: int = _BANDS) -> Uint64s:
    """Returns the keys of shape (bands,); rows that share one are candidates."""
    keys = np.zeros(bands, dtype=np.uint64)
    multiply, add = _HASH_FACTORS[: bands * _ROWS], _HASH_OFFSETS[: bands * _ROWS]
    for side, factors in zip((prompt, answer), _BAND_FACTORS, strict=True):
        hashes = side[:, None] * multiply
        hashes += add
        lowest = (hashes.min(axis=0) >> _SHIFT).reshape(bands, _ROWS)
        keys = (keys ^ (keys >> _SHIFT)) * factors[0] + (lowest * factors).sum(axis=1)
    return keys


@dataclass(frozen=True)
class Duplicates:
    """Which rows repeat an earlier one.

    Attributes:
        earlier: For each row the one that stays in its place, or -1 where it stays itself.
        similarity: Of both, on the less alike side; 1 for equal rows.
    """

    earlier: NDArray[np.int32]
    similarity: NDArray[np.float32]


class DuplicateFinder:
    """Takes every row of a spool in turn, and then says which rows repeat an earlier one.

    The keys stand in files, one a band; memory holds one band's keys at a time, 16 bytes a row.

    Args:
        folder: Where the files are written; `find` deletes them.
        threshold: Jaccard similarity of both sides that makes a duplicate; None: exact ones only.
    """

    def __init__(self, folder: Path, threshold: float | None) -> None:
        self._threshold = threshold
        bands = 0 if threshold is None else _BANDS
        self._paths = [folder / f"{name}.keys" for name in ("ids", *range(bands))]
        self._keys: list[Uint64s] = []
        for path in self._paths:
            path.write_bytes(b"")

    def add(self, row_id: str, prompt: Sequence[str], answer: Sequence[str]) -> None:
        """Takes the next row of the spool, both sides as `tokens_of` returns them."""
        keys = [np.array([id_key(row_id)], dtype=np.uint64)]
        if self._threshold is not None:
            keys.append(band_keys(shingles(prompt), shingles(answer)))
        self._keys.append(np.concatenate(keys))
        if len(self._keys) == _BUFFERED:
            self._flush()

    def _flush(self) -> None:
        for path, column in zip(self._paths, zip(*self._keys, strict=True), strict=False):
            with path.open("ab") as stream:
                stream.write(np.array(column, dtype=np.uint64).tobytes())
        self._keys = []

    def find(self, spool: Spool) -> Duplicates:
        """Compares the candidates; the earliest of rows that are alike stays."""
        self._flush()
        count = len(spool)
        found = Duplicates(np.full(count, -1, dtype=np.int32), np.ones(count, dtype=np.float32))
        ids, *bands = self._paths
        for row, first in _candidates(ids).tolist():
            if found.earlier[row] < 0 and spool[row]["row_id"] == spool[first]["row_id"]:
                found.earlier[row] = first
        pairs = np.empty((0, 2), dtype=np.int64)
        for path in bands:
            pairs = np.unique(np.concatenate([pairs, _candidates(path)]), axis=0)
        for path in self._paths:
            path.unlink()
        self._decide(pairs, found, spool)
        # An equal row of one that went out goes out by what that one did.
        for row in np.flatnonzero((found.earlier >= 0) & (found.earlier[found.earlier] >= 0)):
            equal = found.earlier[row]
            found.earlier[row] = found.earlier[equal]
            found.similarity[row] = found.similarity[equal]
        return found

    def _decide(self, pairs: NDArray[np.int64], found: Duplicates, spool: Spool) -> None:
        @lru_cache(maxsize=256)
        def sides(number: int) -> tuple[Uint64s, Uint64s]:
            prompt, answer = chat_sides(spool[number]["messages"])
            return shingles(tokens_of(prompt.text)), shingles(tokens_of(answer.text))

        # Rows in ascending order: whether the other one stays is known by then.
        for row, other in pairs.tolist():
            if found.earlier[row] >= 0:
                continue
            stays = other
            while found.earlier[stays] >= 0:
                stays = int(found.earlier[stays])
            alike = min(map(similarity, sides(row), sides(stays)))
            if self._threshold is not None and alike >= self._threshold:
                found.earlier[row], found.similarity[row] = stays, alike


def id_key(row_id: str) -> int:
    """Returns a row id's 64 bits: ids end in the digits of a hash."""
    return int(row_id[-16:], 16)


def _candidates(path: Path) -> NDArray[np.int64]:
    """Returns the pairs (row, earlier row) of equal keys: with the first such row and the last."""
    keys: Uint64s = np.fromfile(path, dtype=np.uint64)
    rows = _repeated(keys)
    keys = keys[rows]
    order = np.argsort(keys, kind="stable")
    places = np.arange(len(keys))
    opens = np.ones(len(keys), dtype=bool)
    opens[1:] = keys[order[1:]] != keys[order[:-1]]
    firsts = np.maximum.accumulate(np.where(opens, places, 0))
    repeats = places[~opens]
    pairs = [np.stack([order[repeats], order[firsts[repeats]]], axis=1)]
    for back in range(1, _LAST + 1):
        inside = repeats[repeats - back > firsts[repeats]]
        pairs.append(np.stack([order[inside], order[inside - back]], axis=1))
    found: NDArray[np.int64] = rows[np.concatenate(pairs)]
    return found


def _repeated(keys: Uint64s) -> NDArray[np.int64]:
    """Returns the numbers of the keys that stand there more than once, in ascending order."""
    ordered = np.sort(keys)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not len(repeated):
        return np.empty(0, dtype=np.int64)
    places = np.searchsorted(repeated[:-1], keys)
    return np.flatnonzero(repeated[places] == keys)
