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

Numbers = NDArray[np.int32]
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

    rows: Numbers
    copies: Numbers
    used: Mapping[str, int]


def choose(ids: Uint64s, count: int, seed: int) -> NDArray[np.bool_]:
    """Returns which rows are chosen, of shape (rows,): `count` of them, at random by the seed."""
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[np.lexsort((ids, _numbers(ids, seed, "choice", 0)))[:count]] = True
    return chosen


def mix(
    sources: Mapping[str, Numbers], weights: Mapping[str, float], ids: Uint64s, seed: int
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
            copies.append(np.full(len(members), copy, dtype=np.int32))
        rows.append(members[choose(ids[members], rest, seed)])
        copies.append(np.full(rest, whole, dtype=np.int32))
    row_numbers = np.concatenate(rows) if rows else np.empty(0, dtype=np.int32)
    copy_numbers = np.concatenate(copies) if copies else np.empty(0, dtype=np.int32)
    own_ids = ids[row_numbers]
    places = _numbers(own_ids, seed, "order", copy_numbers)
    order = np.lexsort((copy_numbers, own_ids, places))
    return Mix(row_numbers[order], copy_numbers[order], used)


def _numbers(ids: Uint64s, seed: int, purpose: str, copies: Numbers | int) -> Uint64s:
    """Mixes ids with a seed (the finaliser of splitmix64, Steele et al. 2014)."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    keys = np.frombuffer(digest[:16], dtype="<u8")
    value: Uint64s = ids ^ keys[0]
    value += np.asarray(copies).astype(np.uint64) * (keys[1] | np.uint64(1))
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        value ^= value >> shift
        value *= multiplier
    value ^= value >> _SHIFTS[2]
    return value
