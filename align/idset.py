"""A set of ids in little memory: some 20 bytes an id, where Python's own takes over a hundred."""

from __future__ import annotations

import hashlib
from array import array

_FIRST_SLOTS = 1 << 10
_MOST_FULL = 0.6


class IdSet:
    """Ids that were seen, each kept as 64 bits of its hash.

    Two different ids are taken for one with a probability of n^2 / 2^65 among n ids: 3e-8 for a
    million.
    """

    def __init__(self) -> None:
        self._slots = _empty(_FIRST_SLOTS)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: str) -> bool:
        value = _hashed(name)
        return self._slots[_slot(self._slots, value)] == value

    def add(self, name: str) -> None:
        """Takes an id in; one that is there already changes nothing."""
        value = _hashed(name)
        slot = _slot(self._slots, value)
        if self._slots[slot] == value:
            return
        self._slots[slot] = value
        self._count += 1
        if self._count > _MOST_FULL * len(self._slots):
            self._grow()

    def _grow(self) -> None:
        larger = _empty(2 * len(self._slots))
        for value in self._slots:
            if value:
                larger[_slot(larger, value)] = value
        self._slots = larger


def _empty(slots: int) -> array[int]:
    return array("Q", bytes(8 * slots))


def _hashed(name: str) -> int:
    # 0 marks a free slot.
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") or 1


def _slot(slots: array[int], value: int) -> int:
    """Returns where a value stands, or the free slot where it would."""
    mask = len(slots) - 1
    place = value & mask
    while slots[place] and slots[place] != value:
        place = (place + 1) & mask
    return place
