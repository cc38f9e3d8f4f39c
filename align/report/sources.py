"""What became of each source of instruction rows, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from align.report import words


def sources_table(sources: Sequence[Mapping[str, Any]]) -> Table:
    """Builds the table from the data stage's details."""
    table = Table("source", "layout", "read", "left out", "kept", "weight", "used")
    for source in sources:
        out = [f"{kind.replace('_', ' ')} {count:,}" for kind, count in source["dropped"].items()]
        table.add_row(
            Text(words.visible(source["source"], 200)),
            ", ".join(source["layouts"]),
            f"{source['read']:,}",
            ", ".join(out) or "none",
            f"{source['kept']:,}",
            f"{source['weight']:g}",
            f"{source['used']:,}",
        )
    return table
