"""Rows behind one another in a batch of one: no padding, common beginnings once, none sees another.

A pass is a forest of segments. A row is a path from a root: what several rows begin with is one
segment that each of them goes on from, so that it is computed once. A row without such a beginning
is a root of its own. Only tokens that something is predicted from are computed: a row ends before
its last label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch

from align.chat import IGNORED

_LEAST_SHARED = 8
"""A segment of its own costs one more attention call a layer: fewer tokens are not worth it."""


@dataclass
class Layout:
    """Which tokens of a pass see which.

    Attributes:
        lengths: Tokens of each segment, in the order in which the segments stand.
        paths: For each segment the segments that its tokens see, itself last.
    """

    lengths: list[int] = field(default_factory=list)
    paths: list[tuple[int, ...]] = field(default_factory=list)
    _masks: dict[int, torch.Tensor] = field(default_factory=dict, repr=False)

    def add(self, length: int, parent: int | None) -> int:
        """Appends a segment and returns its number."""
        above = () if parent is None else self.paths[parent]
        self.lengths.append(length)
        self.paths.append((*above, len(self.paths)))
        return len(self.paths) - 1

    def mask(self, segment: int, device: torch.device) -> torch.Tensor:
        """Returns what is added to the scores of a segment's queries, of shape (own, seen)."""
        if segment not in self._masks:
            own = self.lengths[segment]
            before = sum(self.lengths[number] for number in self.paths[segment][:-1])
            mask = torch.full((own, own), float("-inf"), device=device).triu(1)
            self._masks[segment] = torch.cat([mask.new_zeros(own, before), mask], dim=1)
        return self._masks[segment]


@dataclass(frozen=True)
class _Piece:
    """Tokens `start:stop` of a row, standing as one segment."""

    row: int
    start: int
    stop: int


def pack(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]], *, share: bool = True
) -> dict[str, Any]:
    """Packs rows of (ids, labels) into one forward pass.

    Args:
        rows: Ids and labels of each row, equally long; a label is its position's own id.
        share: Compute what several rows begin with only once, trained tokens included: each row
            keeps its own labels, and those of a shared beginning are predicted from one place.

    Returns:
        `input_ids` and `position_ids` of shape (1, tokens); for each label, of shape (labels,),
        `targets` (its id), `sources` (the place in the pass that predicts it) and `rows` (whose it
        is), row by row; and, where beginnings are shared, the `layout`, which
        `align.attention.packed_attention` needs to keep rows apart.

    Raises:
        ValueError: A row has no label, or one on its first token, before which nothing stands.
    """
    labelled = [_labelled(labels) for _, labels in rows]
    ends = [places[-1] for places in labelled]
    layout = Layout()
    pieces: list[_Piece] = []
    homes: list[list[tuple[int, int]]] = [[] for _ in rows]  # (segment's place, its start in a row)

    def stand(members: Sequence[int], start: int, stop: int, parent: int | None) -> int | None:
        if start == stop:
            return parent
        place = sum(layout.lengths)
        pieces.append(_Piece(members[0], start, stop))
        for member in members:
            homes[member].append((place, start))
        return layout.add(stop - start, parent)

    def grow(members: Sequence[int], start: int, depth: int, parent: int | None) -> None:
        """Places the members from `start` on; up to `depth` they are known to be equal."""
        if len(members) == 1:
            stand(members, start, ends[members[0]], parent)
            return
        limit = min(ends[member] for member in members)
        first = rows[members[0]][0]
        while depth < limit and all(rows[m][0][depth] == first[depth] for m in members):
            depth += 1
        if depth - start >= _LEAST_SHARED:
            parent = stand(members, start, depth, parent)
            start = depth
        done = [member for member in members if ends[member] == depth]
        for member in done:
            stand([member], start, ends[member], parent)
        rest = sorted(set(members) - set(done), key=lambda member: (rows[member][0][depth], member))
        for _, group in groupby(rest, key=lambda member: rows[member][0][depth]):
            grow(list(group), start, depth, parent)

    if share:
        grow(range(len(rows)), 0, 0, None)
    else:
        for number, end in enumerate(ends):
            stand([number], 0, end, None)
    ids = [token for piece in pieces for token in rows[piece.row][0][piece.start : piece.stop]]
    positions = [position for piece in pieces for position in range(piece.start, piece.stop)]
    wanted = [(number, place) for number, places in enumerate(labelled) for place in places]
    batch: dict[str, Any] = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "targets": torch.tensor([rows[number][0][place] for number, place in wanted]),
        "sources": torch.tensor([_place(homes[number], place - 1) for number, place in wanted]),
        "rows": torch.tensor([number for number, _ in wanted]),
    }
    return batch | {"layout": layout} if share else batch


def _labelled(labels: Sequence[int]) -> list[int]:
    places = [place for place, label in enumerate(labels) if label != IGNORED]
    if not places or places[0] == 0:
        raise ValueError("a row needs a label, and none on its first token: nothing predicts it")
    return places


def _place(homes: Sequence[tuple[int, int]], position: int) -> int:
    place, start = next(home for home in reversed(homes) if home[1] <= position)
    return place + position - start


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Splits rows into few passes of at most `capacity` tokens: best fit, the longest first.

    A row that is longer stands alone.

    Returns:
        The numbers of each pass's rows, in ascending order; the passes by their first row.
    """
    bins: list[tuple[int, list[int]]] = []  # (room left, rows)
    for number in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        fitting = [bin for bin in bins if bin[0] >= lengths[number]]
        if fitting:
            best = min(fitting, key=lambda bin: bin[0])
            bins.remove(best)
            bins.append((best[0] - lengths[number], [*best[1], number]))
        else:
            bins.append((capacity - lengths[number], [number]))
    return sorted(sorted(rows) for _, rows in bins)
