"""How often each row is taken, and in which order: both by keyed hashes, so by seed alone.

Every copy of a row has a number that depends on the seed, the row's id and the copy. A source's
remainder are the rows of the smallest numbers, and the order of all copies is that of theirs:
neither depends on the order of a file, and a row more leaves the others where they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Uint64s = NDArray[np.uint64]

_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


@dataclass(frozen=True)
class Mix:
    """The rows of the mixture in their order.

    Attributes:
        rows: Row numbers, of shape (taken,).
        copies: Which use of its row each one is, from 0, of shape (taken,).
        used: How many are taken from each source.
    """

    rows: Int64s
    copies: Int64s
    used: Mapping[str, int]


def choose(ids: Uint64s, count: int, seed: int) -> NDArray[np.bool_]:
    """Returns which rows are chosen, of shape (rows,): `count` of them, at random by the seed."""
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[np.lexsort((ids, _numbers(ids, seed, "choice", 0)))[:count]] = True
    return chosen


def mix(
    sources: Mapping[str, Int64s], weights: Mapping[str, float], ids: Uint64s, seed: int
) -> Mix:
    """Takes every source's rows as often as its weight says.

    A weight of 2.5 is two full repeats and a random half; a source of n rows gives round(weight n).

    Args:
        sources: Numbers of the rows of each source.
        weights: Of each source.
        ids: 64 bits of every row's id, of shape (rows,).
        seed: Decides the remainder and the order.
    """
    rows, copies, used = [], [], {}
    for name, members in sources.items():
        used[name] = round(weights[name] * len(members))
        whole, rest = divmod(used[name], max(1, len(members)))
        for copy in range(whole):
            rows.append(members)
            copies.append(np.full(len(members), copy))
        rows.append(members[choose(ids[members], rest, seed)])
        copies.append(np.full(rest, whole))
    row_numbers = np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)
    copy_numbers = np.concatenate(copies) if copies else np.empty(0, dtype=np.int64)
    places = _numbers(ids[row_numbers], seed, "order", copy_numbers)
    order = np.lexsort((copy_numbers, ids[row_numbers], places))
    return Mix(row_numbers[order], copy_numbers[order], used)


def _numbers(ids: Uint64s, seed: int, purpose: str, copies: Int64s | int) -> Uint64s:
    """Mixes ids with a seed (the finaliser of splitmix64, Steele et al. 2014)."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    keys = np.frombuffer(digest[:16], dtype="<u8")
    value = (ids ^ keys[0]) + np.asarray(copies).astype(np.uint64) * (keys[1] | np.uint64(1))
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        value = (value ^ (value >> shift)) * multiplier
    mixed: Uint64s = value ^ (value >> _SHIFTS[2])
    return mixed
