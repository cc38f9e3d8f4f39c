"""Counts and lists what a stage passes over, so that no row is dropped in silence."""

from __future__ import annotations

from collections import Counter
from typing import Any

from align.stage import Context

_MOST_LISTED = 200


class Skips:
    """Counts skips by reason, logs each, and keeps the first ones for the manifest."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.counts: Counter[str] = Counter()
        self.listed: list[dict[str, Any]] = []

    def add(self, kind: str, place: str, reason: str) -> None:
        """Notes that the row at `place` was passed over, and why."""
        self.counts[kind] += 1
        entry = {"kind": kind, "place": place, "reason": reason}
        if len(self.listed) < _MOST_LISTED:
            self.listed.append(entry)
        self._context.log("skip", **entry)

    def first(self) -> str:
        """Returns the first skip in words, for an error about an empty result."""
        if not self.listed:
            return "the tables are empty"
        entry = self.listed[0]
        return f"first skip: {entry['place']}: {entry['reason']}"
