"""Rejection sampling: from samples and verdicts to the rows of the fine stage."""

from align.selection.stage import run

__all__ = ["run"]
