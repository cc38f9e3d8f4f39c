"""What the data stage leaves out: every row with its place and reason, every overlap by itself."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from align.artifacts import TableWriter, short_id
from align.data.decontaminate import Hit

_MOST_LISTED = 200


class Dropped:
    """Writes and counts the rows that are left out.

    Args:
        rows: Table of `align.rows.DROPPED`.
        overlaps: Table of `align.rows.CONTAMINATION`.
    """

    def __init__(self, rows: TableWriter, overlaps: TableWriter) -> None:
        self._rows = rows
        self._overlaps = overlaps
        self.counts: Counter[str] = Counter()
        self.by_source: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.problems: Counter[str] = Counter()
        self.listed: list[dict[str, Any]] = []

    def add(self, kind: str, source: str, place: str, reason: str) -> None:
        """Notes that the row at `place` was left out, and why."""
        self.counts[kind] += 1
        self.by_source[source][kind] += 1
        # Half a character, which a table can't hold, may stand in what a row was refused for.
        reason = reason.encode(errors="backslashreplace").decode()
        entry = {"kind": kind, "place": place, "reason": reason}
        if len(self.listed) < _MOST_LISTED:
            self.listed.append(entry)
        drop_id = short_id("d", source, kind, place)
        if drop_id not in self._rows.done:
            self._rows.add({"drop_id": drop_id, "source": source, **entry})

    def add_contaminated(self, source: str, place: str, hits: Sequence[Hit]) -> None:
        """Notes a row that overlaps benchmarks, with each overlap."""
        more = f", and {len(hits) - 1} more" if len(hits) > 1 else ""
        self.add("contaminated", source, place, f"{hits[0]}{more}")
        self.problems.update({f"{hit.benchmark} {hit.problem}" for hit in hits})
        for hit in hits:
            hit_id = short_id("c", source, place, hit.benchmark, hit.problem, hit.rule, hit.side)
            if hit_id not in self._overlaps.done:
                self._overlaps.add(
                    {
                        "hit_id": hit_id,
                        "place": place,
                        "side": hit.side,
                        "benchmark": hit.benchmark,
                        "problem": hit.problem,
                        "rule": hit.rule,
                        "evidence": hit.evidence,
                    }
                )

    def first(self) -> str:
        """Returns the first row left out in words, for an error about an empty result."""
        if not self.listed:
            return "the tables are empty"
        entry = self.listed[0]
        return f"the first one left out: {entry['place']}: {entry['reason']}"
